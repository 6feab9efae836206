"""The page around the plots: one HTML text that loads nothing."""

import html
import json

NEEDED = ["command", "trace", "options", "requests", "steps", "timeline", "curves", "ceilings", "plan_share", "output_digest"]


class ReportError(Exception):
    """The file is not what a page can be made from."""


def read_replay(path):
    """The JSON object of a replay. Raises ReportError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: it can't be read ({getattr(error, 'strerror', None) or 'no UTF-8 text'}); give a file that fovea replay --json wrote") from error
    try:
        replay = json.loads(text)
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}:{error.lineno}: it is no JSON ({error.msg}); give a file that fovea replay --json wrote") from error
    if not isinstance(replay, dict) or replay.get("command") != "replay":
        command = replay.get("command", "no command") if isinstance(replay, dict) else "no object"
        raise ReportError(f"{path}: it is not of a replay ({command}); give a file that fovea replay --json wrote")
    missing = [key for key in NEEDED if key not in replay]
    if missing:
        raise ReportError(f"{path}: keys are missing ({', '.join(missing)}); was it written by another version?")
    if not replay["timeline"]["steps"]:
        raise ReportError(f"{path}: there are no steps in it; the replay was interrupted before the first")
    return replay


def make_page(replay):
    from .plots import plots_of  # matplotlib is loaded when a page is made

    title = f"{replay['trace']['name']} on {replay['options']['model']}"
    parts = [
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">', f"<title>{html.escape(title)}</title>",
        '<meta name="viewport" content="width=device-width">', f"<style>{STYLE}</style></head><body><main>",
        f"<h1>{html.escape(title)}</h1>", f"<p class=about>{about(replay)}</p>", notices(replay), tiles(replay),
    ]
    for heading, text, svg in plots_of(replay):
        parts.append(f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(text)}</p>{svg}</section>")
    parts += [f"<section><h2>Figures</h2>{table(replay)}</section>", "</main></body></html>\n"]
    return "\n".join(parts)


def grouped(number):
    return f"{number:,}"


def duration(milliseconds):
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.3g} s"
    return f"{milliseconds:.3g} ms" if milliseconds >= 1 else f"{milliseconds * 1000:.3g} µs"


def about(replay):
    options = replay["options"]
    shrink = f", one token for {options['shrink']} of the trace" if options["shrink"] > 1 else ""
    return html.escape(
        f"fovea {replay['fovea']}; {replay['cpu']}, {replay['cores']} cores; {replay['engine']}; {options['layers']} of {options['layers_of_model']} layers, "
        f"K and V in {options['kv_dtype']}, {grouped(options['pages'])} pages of {options['page_size']} tokens, at most {grouped(options['token_budget'])} tokens and "
        f"{options['max_requests']} requests a step{shrink}.")


def notices(replay):
    texts = []
    if replay["interrupted"]:
        texts.append(f"Interrupted after {grouped(replay['steps'])} of {grouped(replay['planned_steps'])} steps.")
    if replay["mismatched_steps"] > 0:
        texts.append(f"{replay['mismatched_steps']} of {replay['checked_steps']} checked steps are wrong: {replay['first_mismatch']}")
    if replay["trace"]["skipped_lines"] > 0:
        texts.append(f"{replay['trace']['skipped_lines']} lines of the trace were skipped; the first: {replay['trace']['first_skipped']}")
    if replay["rejected"] > 0:
        texts.append(f"{replay['rejected']} requests are longer than the whole cache and were rejected.")
    return "".join(f"<p class=notice>{html.escape(text)}</p>" for text in texts)


def tiles(replay):
    checked = f"{replay['checked_steps'] - replay['mismatched_steps']} of {replay['checked_steps']}" if replay["checked_steps"] else "none"
    layers = f"{replay['options']['layers']} of {replay['options']['layers_of_model']} layers"

    def latency(name, key):
        if not replay["curves"][key]:
            return "none", name
        return duration(replay[key]["p50"]), f"{name}, p50 (p99 {duration(replay[key]['p99'])})"

    values = [
        (grouped(replay["requests"]), "requests finished"),
        (grouped(round(replay["tokens_per_s"])), f"tokens/s through the attention of {layers}"),
        latency("first token", "first_token_ms"),
        latency("between tokens", "inter_token_ms"),
        (f"{100 * replay['cache_hit_rate']:.0f} %", "of the tokens looked up were in the cache"),
        (f"{100 * replay['plan_share']:.2g} %", "of the time is planning"),
        (checked, f"checked steps right ({grouped(replay['checked_pairs'])} rows and heads)"),
        (grouped(replay["preemptions"]), "preemptions"),
    ]
    return "<div class=tiles>" + "".join(f"<div><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>" for value, name in values) + "</div>"


def table(replay):
    ceilings, rows = replay["ceilings"], []

    def row(name, value):
        rows.append(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>")

    def spread(name, key, factor):
        any_sample = replay["curves"].get(key, True)
        row(name, " / ".join(duration(replay[key][p] * factor) for p in ("p50", "p90", "p99")) + "  (p50 / p90 / p99)" if any_sample else "none")

    row("steps", f"{grouped(replay['steps'])}, {grouped(replay['mixed_steps'])} with prefill and decode")
    row("tokens", f"{grouped(replay['prompt_tokens'])} of prompts, {grouped(replay['output_tokens'])} generated, {grouped(replay['computed_tokens'])} computed, "
                  f"{grouped(replay['recomputed_tokens'])} of them again")
    row("cache", f"{grouped(replay['cache_hit_tokens'])} tokens found, {grouped(replay['evictions'])} evictions; {replay['kv_cache_bytes'] / 2**20:,.0f} MiB")
    row("prompts in pieces", grouped(replay["chunked_prefills"]))
    spread("step", "step_ms", 1)
    spread("plan", "plan_us", 1e-3)
    spread("append", "append_us", 1e-3)
    spread("run", "run_us", 1e-3)
    if replay["device"] == "cuda":
        spread("launches, on the host", "launch_us", 1e-3)
    spread("first token", "first_token_ms", 1)
    spread("between tokens", "inter_token_ms", 1)
    row("decode steps", rate(replay["decode_gb_per_s"], "GB/s of K and V", ceilings["read_gb_per_s"], "from memory"))
    row("steps with prefill", rate(replay["prefill_gflop_per_s"], "GFLOP/s", ceilings["fma_gflop_per_s"], ceilings["fma"]))
    row("compiled", f"{len(replay['compiled'])} in prepare ({duration(replay['prepare_ms'])}), {replay['compiles_after_prepare']} after it")
    row("largest error", f"{replay['worst_error']:.2f} of its bound" if replay["worst_error"] is not None else "not finite")
    row("output digest", replay["output_digest"])
    row("wall time", f"{replay['seconds']['all']:.1f} s: steps {replay['seconds']['steps']:.1f}, inputs {replay['seconds']['inputs']:.1f}, "
                     f"digest {replay['seconds']['digest']:.1f}, checks {replay['seconds']['check']:.1f}")
    return f"<table>{''.join(rows)}</table>"


def rate(value, unit, ceiling, of_what):
    share = f", {100 * value / ceiling:.0f} % of the measured {ceiling:.0f} {of_what}" if ceiling > 0 else ""
    return f"{value:.3g} {unit}{share}" if value > 0 else "none"


STYLE = """
body { margin: 0; background: #f4f5f7; color: #222; font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 980px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 0 0 2px; }
p { margin: 0 0 10px; color: #555; }
section { background: #fff; border: 1px solid #e0e2e7; border-radius: 8px; padding: 16px 18px; margin-top: 16px; }
svg { width: 100%; height: auto; display: block; }
.notice { background: #fff3e0; border-left: 4px solid #d9772b; color: #5b3410; padding: 8px 12px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 10px; margin-top: 14px; }
.tiles div { background: #fff; border: 1px solid #e0e2e7; border-radius: 8px; padding: 10px 14px; }
.tiles b { display: block; font-size: 22px; }
.tiles span { color: #666; font-size: 13px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; font-weight: normal; padding: 4px 8px 4px 0; border-top: 1px solid #eceef1; vertical-align: top; white-space: pre-wrap; }
th { color: #666; width: 170px; }
"""
