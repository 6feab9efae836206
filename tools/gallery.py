#!/usr/bin/env python3
"""docs/gallery.md and its pictures: the built-in variants, their values, and their masks as `fovea explain --picture` draws them.

  tools/gallery.py FOVEA            writes docs/gallery.md and docs/gallery/*.svg
  tools/gallery.py FOVEA --check    fails where one of them is out of date

FOVEA is the built command. What a variant is comes from the first comment of its header."""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs/gallery"
PAGE = ROOT / "docs/gallery.md"
UPDATE = "run `make pages`"

# Pictures beside one of every built-in that has a mask: file, then options.
MORE = {
    "sliding_window_sinks": ["--variant", "sliding_window", "--mask", "window_left=12", "--mask", "num_sink_tokens=4"],
    "sliding_window_long": ["--variant", "sliding_window", "--mask", "window_left=512", "--qo-len", "1024", "--kv-len", "4096"],
    "causal_document": ["--variant", "causal+document"],
    "causal_chunk": ["--variant", "causal", "--qo-len", "16", "--kv-len", "48"],
}
SAYS = {
    "sliding_window_sinks": "With `num_sink_tokens`, the first keys stay visible.",
    "sliding_window_long": "A chunk of 1,024 queries at the end of 4,096 tokens, window 512; one cell is 43 tokens.",
    "causal_document": "Composed, as `causal+document`: keeps are and-ed.",
    "causal_chunk": "The last 16 of 48 tokens, as a chunk of a prompt: aligned to the last key.",
}
MORE_OF = {"sliding_window": ["sliding_window_sinks", "sliding_window_long"], "document": ["causal_document"], "causal": ["causal_chunk"]}


def run(fovea, *arguments):
    done = subprocess.run([fovea, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"tools/gallery.py: fovea {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def picture(fovea, *arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "mask.svg"
        run(fovea, "explain", *arguments, "--picture", str(path))
        return path.read_text()


def about(name):
    """The comment that a variant's header begins with."""
    lines = []
    for line in (ROOT / f"variants/{name}.h").read_text().splitlines():
        if not line.startswith("//"):
            break
        lines.append(line.removeprefix("//").strip())
    return " ".join(lines)


def values(names):
    return ", ".join(f"`{name}`" for name in names) or "none"


def gallery(fovea):
    """{path: text}"""
    variants = json.loads(run(fovea, "explain", "--variants", "--json", "-"))["variants"]
    parts = [v for v in variants if "+" not in v["name"]]
    # What sees all and isn't `full` changes logits, rows or outputs: it has no mask to draw.
    pictures = {v["name"]: picture(fovea, "--variant", v["name"]) for v in parts}
    masks = [v for v in parts if v["name"] == "full" or pictures[v["name"]].replace(f">{v['name']}<", ">full<") != pictures["full"]]
    files = {FOLDER / f"{v['name']}.svg": pictures[v["name"]] for v in masks}
    files.update({FOLDER / f"{name}.svg": picture(fovea, *arguments) for name, arguments in MORE.items()})
    text = """# Gallery: the built-in variants

Made by `tools/gallery.py` from `fovea explain --variants` and `fovea explain --picture`, which draws your own masks too
(`fovea explain --variant-file my_mask.h --picture my_mask.svg`, or `--picture -` in the terminal); a test keeps it true.

Queries go down, keys across; blue is seen. Dark tiles are full: their keys are used without asking the mask. White tiles are empty: their keys are never
read. In the others the mask is asked pair by pair. Kernels have larger tiles than these pictures, 64 keys and up.

"""
    for v in masks:
        name = v["name"]
        text += f"## {name}\n\n{about(name)}\n\n![The mask of {name}](gallery/{name}.svg)\n\n"
        text += f"Mask: {values(v['masks'])}. Parameters: {values(v['params'])}. Answers for tiles: {v['interval']}.\n\n"
        for more in MORE_OF.get(name, []):
            text += f"{SAYS[more]}\n\n![The mask of {name}](gallery/{more}.svg)\n\n"
    text += "## Without a mask of their own\n\nThey see what `full` sees; compose them with a mask: `causal+soft_cap`.\n\n| | | parameters |\n|---|---|---|\n"
    for v in parts:
        if v not in masks:
            text += f"| `{v['name']}` | {about(v['name'])} | {values(v['params'])} |\n"
    text += "\nCompiled in as they are: " + ", ".join(f"`{v['name']}`" for v in variants if "+" in v["name"])
    text += ". Any other composition is compiled when `prepare` first needs it.\n"
    files[PAGE] = text
    return files


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fovea")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    files = gallery(str(pathlib.Path(args.fovea).resolve()))
    stale = sorted(set(FOLDER.glob("*.svg")) - set(files)) if FOLDER.exists() else []
    if not args.check:
        FOLDER.mkdir(exist_ok=True)
        for path in stale:
            path.unlink()
        for path, text in files.items():
            path.write_text(text)
        return 0
    wrong = [path for path, text in files.items() if not path.exists() or path.read_text() != text] + stale
    for path in wrong:
        print(f"{path.relative_to(ROOT)} is out of date; {UPDATE}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
