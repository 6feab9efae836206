"""The plots of a replay's page, as SVG texts. Every function takes the whole JSON object and returns one figure."""

import io
import math
import re

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot, ticker  # noqa: E402: after the choice of backend

PREFILL, DECODE, HIT, PLAN, MARK, GREY = "#d9772b", "#2a6fb0", "#3a9a63", "#8a4fb5", "#c0392b", "#8a8f98"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a8",
    "axes.labelcolor": "#333333",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6ea",
    "grid.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small files, searchable
    "svg.hashsalt": "fovea",  # the same input, the same page
}


def plots_of(replay):
    """(title, what it shows, SVG) of every plot."""
    with pyplot.rc_context(STYLE):
        return [(title, about + (together(replay) if by_step else ""), svg_of(draw(replay))) for title, about, draw, by_step in PLOTS]


def together(replay):
    """Long replays have several steps in a row."""
    count = max(replay["timeline"]["steps"])
    return f" A point stands for {count} adjacent steps." if count > 1 else ""


def svg_of(figure):
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)  # the page's
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)  # a hundredth of a point is enough
    return re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", svg, count=1)  # as wide as the page lets it be


def figure_of(rows=1, columns=1, height=3.0, **options):
    return pyplot.subplots(rows, columns, figsize=(9.2, height), layout="constrained", **options)


def steps_before(timeline):
    """Index of the first step of every row, and of the step after the last."""
    before = [0]
    for count in timeline["steps"]:
        before.append(before[-1] + count)
    return before


def to_the_end(values):
    """Values of rows for a plot in steps, which ends where the last row ends."""
    return values + values[-1:]


def per_step(timeline, key):
    return [value / count for value, count in zip(timeline[key], timeline["steps"])]


def milliseconds(value, _=None):
    return f"{value:g} ms" if value >= 1 else f"{value * 1000:g} µs"


def nothing_here(axes, text):
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def draw_latencies(replay):
    figure, axes = figure_of(height=3.0)
    drawn = False
    for key, name, colour in (("first_token_ms", "first token", PREFILL), ("inter_token_ms", "between tokens", DECODE), ("step_ms", "step", GREY)):
        curve = replay["curves"][key]
        if not curve:
            continue
        drawn = True
        shares = [100 * i / (len(curve) - 1) for i in range(len(curve))]
        axes.plot([max(value, 1e-3) for value in curve], shares, color=colour, linewidth=1.8, label=name)
        percentiles = serving_percentiles(replay, key)
        axes.plot([max(value, 1e-3) for value in percentiles], [50, 90, 99], "o", color=colour, markersize=4)
    if not drawn:
        nothing_here(axes, "no tokens came out")
        return figure
    log_scale(axes, "x", milliseconds)
    axes.set_ylabel("% at most this long")
    axes.set_ylim(0, 102)
    legend_beside(axes, title="dots: p50, p90, p99")
    return figure


def serving_percentiles(replay, key):
    return [replay[key][name] for name in ("p50", "p90", "p99")]


def draw_timeline(replay):
    timeline = replay["timeline"]
    figure, (tokens, requests, times) = figure_of(3, 1, height=6.0, sharex=True)
    before = steps_before(timeline)
    prefill, decode = to_the_end(per_step(timeline, "prefill_tokens")), to_the_end(per_step(timeline, "decode_tokens"))
    tokens.fill_between(before, decode, step="post", color=DECODE, linewidth=0, label="decode")
    tokens.fill_between(before, decode, [a + b for a, b in zip(decode, prefill)], step="post", color=PREFILL, linewidth=0, label="prefill")
    tokens.set_yscale("symlog", linthresh=10)
    tokens.yaxis.set_major_formatter("{x:g}")
    tokens.set_ylabel("tokens a step")
    tokens.axhline(replay["options"]["token_budget"], color=GREY, linewidth=0.8, linestyle="--", label="token budget")
    legend_beside(tokens)
    requests.step(before, to_the_end(timeline["requests"]), where="post", color=DECODE, linewidth=1, label="in the step")
    requests.step(before, to_the_end(timeline["waiting"]), where="post", color=PREFILL, linewidth=1, label="waiting")
    marks = [at for at, count in zip(before, timeline["preempted"]) if count > 0]
    if marks:
        requests.plot(marks, [0] * len(marks), "v", color=MARK, markersize=5, clip_on=False, label="preemption")
    requests.set_ylabel("requests")
    requests.set_ylim(bottom=0)
    legend_beside(requests)
    times.step(before, to_the_end(per_step(timeline, "step_ms")), where="post", color="#444444", linewidth=0.9, label="step")
    log_scale(times, "y", milliseconds)
    times.set_ylabel("time of a step")
    times.set_xlabel("step")
    legend_beside(times)
    return figure


def legend_beside(axes, **options):
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, **options)


def log_scale(axes, name, formatter):
    """Logarithmic x or y of what was plotted, with a number at 1, 2 and 5 where there are few powers of ten."""
    axes.set(**{f"{name}scale": "log"})
    low, high = getattr(axes, f"get_{name}lim")()
    axis = getattr(axes, f"{name}axis")
    if high < 50 * low:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(ticker.NullFormatter())


def draw_plan(replay):
    timeline = replay["timeline"]
    figure, (over_time, shares) = figure_of(1, 2, height=3.0, width_ratios=[3, 2])
    before = steps_before(timeline)[:-1]
    plan, run = per_step(timeline, "plan_us"), [1000 * value for value in per_step(timeline, "run_ms")]
    over_time.plot(before, [max(value, 0.1) for value in run], ".", color=DECODE, markersize=2.5, label="run, all layers")
    over_time.plot(before, [max(value, 0.1) for value in plan], ".", color=PLAN, markersize=2.5, label="plan")
    log_scale(over_time, "y", lambda value, _: milliseconds(value / 1000))
    over_time.set_xlabel("step")
    over_time.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), markerscale=3, ncols=2)
    share = sorted(100 * plan_us / max(1000 * step_ms, 1e-9) for plan_us, step_ms in zip(timeline["plan_us"], timeline["step_ms"]))
    shares.plot(share, [100 * (i + 1) / len(share) for i in range(len(share))], color=PLAN, linewidth=1.8)
    shares.axvline(100 * replay["plan_share"], color=GREY, linewidth=1, linestyle="--")
    shares.annotate(f"{100 * replay['plan_share']:.2g} % of all the time", (100 * replay["plan_share"], 103), ha="center", color="#555555", annotation_clip=False)
    shares.set_ylim(0, 102)
    log_scale(shares, "x", lambda value, _: f"{value:g} %")
    shares.set_xlabel("plan's share of the time")
    shares.set_ylabel("% of steps")
    return figure


def draw_roofline(replay):
    timeline, ceilings = replay["timeline"], replay["ceilings"]
    figure, axes = figure_of(height=3.6)
    read, fma = ceilings["read_gb_per_s"], ceilings["fma_gflop_per_s"]
    groups = {"decode alone": ([], [], DECODE), "with prefill": ([], [], PREFILL)}
    for gflop, megabytes, run_ms, prefill in zip(timeline["gflop"], timeline["kv_mb"], timeline["run_ms"], timeline["prefill_tokens"]):
        if gflop > 0 and megabytes > 0 and run_ms > 0:
            xs, ys, _ = groups["with prefill" if prefill > 0 else "decode alone"]
            xs.append(1000 * gflop / megabytes)
            ys.append(1000 * gflop / run_ms)
    for name, (xs, ys, colour) in groups.items():
        if xs:
            axes.plot(xs, ys, ".", color=colour, markersize=4, alpha=0.6, label=name, markeredgewidth=0)
    everything = [x for xs, _, _ in groups.values() for x in xs]
    if not everything:
        nothing_here(axes, "no step was measured")
        return figure
    if read > 0 and fma > 0:
        low, high = min(everything) / 2, max(max(everything) * 2, 2 * fma / read)
        ridge = fma / read
        axes.plot([low, ridge, high], [low * read, fma, fma], color="#444444", linewidth=1.4)
        axes.annotate(f"{read:.0f} GB/s read   ", (ridge, fma), ha="right", va="bottom", color="#444444")
        axes.annotate(f"{fma:.0f} GFLOP/s {ceilings['fma']}", (high, fma), xytext=(-4, 4), textcoords="offset points", ha="right", color="#444444")
    speeds = [y for _, ys, _ in groups.values() for y in ys] + [fma]
    axes.set_ylim(10 ** math.floor(math.log10(min(speed for speed in speeds if speed > 0))), 10 ** math.ceil(math.log10(max(speeds))))
    log_scale(axes, "x", "{x:g}")
    log_scale(axes, "y", "{x:g}")
    axes.set_xlabel("operations per byte of K and V")
    axes.set_ylabel("GFLOP/s")
    legend_beside(axes, markerscale=2.5)
    return figure


def draw_cache(replay):
    timeline = replay["timeline"]
    figure, (rate, pages) = figure_of(2, 1, height=4.4, sharex=True)
    before = steps_before(timeline)
    hits, prefill, hit_total, prefill_total = [], [], 0, 0
    for hit, computed in zip(timeline["hit_tokens"], timeline["prefill_tokens"]):
        hit_total += hit
        prefill_total += computed
        hits.append(hit_total)
        prefill.append(prefill_total)
    hits, prefill = to_the_end(hits), to_the_end(prefill)
    rate.fill_between(before, hits, step="post", color=HIT, alpha=0.85, linewidth=0, label="found in the cache")
    rate.fill_between(before, hits, [a + b for a, b in zip(hits, prefill)], step="post", color=PREFILL, alpha=0.85, linewidth=0, label="computed")
    rate.yaxis.set_major_formatter(lambda value, _: f"{value / 1000:g} k" if value >= 1000 else f"{value:g}")
    rate.set_ylabel("tokens so far")
    legend_beside(rate)
    total = replay["options"]["pages"]
    used = to_the_end([100 * value / total for value in timeline["pages_used"]])
    idle = to_the_end([100 * value / total for value in timeline["pages_idle"]])
    pages.fill_between(before, used, step="post", color=DECODE, linewidth=0, label="in use")
    pages.fill_between(before, used, [a + b for a, b in zip(used, idle)], step="post", color=HIT, alpha=0.5, linewidth=0, label="kept for reuse")
    marks = [at for at, count in zip(before, timeline["preempted"]) if count > 0]
    if marks:
        pages.plot(marks, [100] * len(marks), "v", color=MARK, markersize=5, clip_on=False, label="preemption")
    pages.set_ylim(0, 100)
    pages.set_ylabel("% of pages")
    pages.set_xlabel("step")
    legend_beside(pages)
    return figure


PLOTS = [
    ("Latencies", "Sums of measured step times: what attention contributes to a request's latency. A shrunk replay has fewer tokens than the trace.", draw_latencies, False),
    ("Steps over time", "What the batching put into each step, who waited, and how long the step took.", draw_timeline, True),
    ("Plan against run", "Planning happens once a step, running once a layer.", draw_plan, True),
    ("Roofline", "Operations on visible (query, key) pairs over bytes of K and V, each counted once. Lines: what loops that only read, and only multiply and add, reached in the same run.", draw_roofline, True),
    ("Prefix cache", "Tokens of prompts, and of requests that come back after a preemption: found or computed. What the pages were used for.", draw_cache, True),
]


