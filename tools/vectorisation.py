#!/usr/bin/env python3
"""Which inner loops of the built-in variants become vector code, from g++'s own report, as docs/vectorisation.md.

  tools/vectorisation.py BUILD            prints the page
  tools/vectorisation.py BUILD --write    writes it
  tools/vectorisation.py BUILD --check    fails where the page is out of date, or a loop is scalar and nobody says why

BUILD is a configured build folder: its generated files name the variants and the flags. The report is g++'s alone; with another
compiler, or another release than the page was made with, --check ends with 77 (skipped)."""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/vectorisation.md"
RELEASE = "12"  # of g++
SKIPPED = 77

# Loops of the hooks' code: a line that the body has within three lines of its `for`.
LOOPS = {
    "logit": ("backends/cpu/device/logits.h", "transformed_logit("),
    "scale": ("backends/cpu/device/logits.h", "scores[c] *= tile.scale"),
    "keep": ("backends/cpu/device/logits.h", ".keep(at)"),
    "pairs by halves": ("portable/rope.h", "a[i] = before * cosines[i]"),
    "neighbouring pairs": ("portable/rope.h", "a[2 * i] = before * cosines[i]"),
    "frequencies": ("portable/rope.h", "turns[i] *= step"),
    "angles": ("portable/rope.h", "cosines[i] = math::cos_turns"),
}
# Scalar loops, and why that is left so.
WHY = {
    ("custom_mask", "keep"): "bits are bytes at 64-bit places, which no instruction set gathers; mixed tiles alone ask for them",
}


def loop_lines():
    """{(file, line of `for`): loop}"""
    found = {}
    for loop, (file, text) in LOOPS.items():
        lines = (ROOT / file).read_text().splitlines()
        for number, line in enumerate(lines):
            if text in line:
                begin = max(i for i in range(number) if lines[i].lstrip().startswith("for ("))
                found[file, begin + 1] = loop
        if loop not in found.values():
            sys.exit(f"tools/vectorisation.py: no loop with '{text}' in {file}; LOOPS says where the hooks' loops are")
    return found


def flag_sets(build):
    text = (build / "generated/cpu_isa_flags.inc").read_text()
    for name, flags in re.findall(r'\{"(\w+)", \{(.*)\}\},', text):
        if name in ("avx2", "avx512"):  # the others share their hooks
            yield name, re.findall(r'"([^"]*)"', flags)


def calls_in_hooks(assembly):
    """Functions called by make_logits: a loop with a call in it is not vector code, whatever the report says."""
    calls, inside = [], False
    for line in assembly.splitlines():
        if match := re.match(r"(\w+):", line):
            inside = "make_logits" in match.group(1)
        elif line.startswith("\t.cfi_endproc"):
            inside = False
        elif inside and (match := re.match(r"\tcall\s+(\S+)", line)):
            calls.append(match.group(1))
    return calls


def report_of(compiler, build, variant, flags, lines):
    """{loop: widest vector in bytes, or the compiler's reason}"""
    source = build / f"generated/cpu_variant_{variant}.cc"
    command = [compiler, "-std=c++20", f"-I{ROOT}", f"-I{ROOT}/include", f"-I{build}", *flags, "-fopt-info-vec-all", "-S", "-o", "-", source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"tools/vectorisation.py: {variant} does not compile:\n{done.stderr}")
    bytes_of, failed, reason, current = {}, set(), {}, None
    for line in done.stderr.splitlines():
        match = re.match(r"(\S+?):(\d+):\d+: (\w+):\s+(.*)", line)
        if not match:
            continue
        file, number, kind, text = match.groups()
        file = str(pathlib.Path(file).resolve())
        loop = next((loop for (f, n), loop in lines.items() if n == int(number) and file == str(ROOT / f)), None)
        if loop and text.startswith("couldn't vectorize loop"):
            failed.add(loop)
            current = loop
        elif loop and (match := re.match(r"loop vectorized using (\d+) byte vectors", text)):
            bytes_of[loop] = max(bytes_of.get(loop, 0), int(match.group(1)))
        elif current and text.startswith("not vectorized: "):
            reason.setdefault(current, text.removeprefix("not vectorized: ").split(":")[0])
            current = None
    result = {loop: width for loop, width in bytes_of.items() if loop not in failed}
    result.update({loop: reason.get(loop, "no reason given") for loop in failed})
    if calls := calls_in_hooks(done.stdout):
        result["logit"] = "calls " + ", ".join(sorted(set(calls)))
    return result


def names_of_variants():
    return sorted(path.stem for path in (ROOT / "variants").glob("*.h"))


def describe(loop, by_isa):
    """'16 lanes with AVX-512, 8 with AVX2', where both are as wide as they can be: 'full'."""
    widths = {isa: report.get(loop) for isa, report in by_isa.items()}
    if all(width is None for width in widths.values()):
        return None
    if all(isinstance(width, int) for width in widths.values()):
        full = all(width == (64 if isa == "avx512" else 32) for isa, width in widths.items())
        return "vector" if full else ", ".join(f"{isa} {width} bytes" for isa, width in widths.items())
    return "scalar"


def page_of(reports):
    rows, reasons, unexplained = [], [], []
    for variant, by_isa in reports.items():
        cells = {loop: describe(loop, by_isa) for loop in LOOPS}
        for loop, cell in cells.items():
            if cell == "scalar":
                said = next(width for report in by_isa.values() if isinstance(width := report.get(loop), str))
                why = WHY.get((variant, loop))
                reasons.append(f"- `{variant}`, {loop}: {why} (g++: \"{said.strip()}\").")
                if not why:
                    unexplained.append(f"{variant}: the {loop} loop is scalar ({said})")
        hook = cells["logit"] or f"scale alone: {cells['scale']}"
        rotary = [f"{loop}: {cells[loop]}" for loop in LOOPS if loop not in ("logit", "scale", "keep") and cells[loop]]
        rows.append(f"| `{variant}` | {hook} | {cells['keep']} | {'; '.join(rotary)} |")
    for key in WHY:
        if key[0] in reports and describe(key[1], reports[key[0]]) != "scalar":
            unexplained.append(f"{key[0]}: the {key[1]} loop is vector code now; take it out of WHY")
    text = f"""# What of the variants becomes vector code

Made by `tools/vectorisation.py` from the report of g++ {RELEASE} (`-fopt-info-vec-all`) on the files that the build compiles for AVX2 and AVX-512; a test keeps
it true. "vector" is full width, 8 floats with AVX2 and 16 with AVX-512, in every loop the compiler made of it, and no call of a function. The products
q . k and weights . v and the softmax are vector code by construction ([backends/cpu/device/vector.h](../backends/cpu/device/vector.h)); these are the loops that a variant's
hooks stand in.

| variant | logits | `keep`, of mixed tiles | rows of queries and keys |
|---|---|---|---|
{chr(10).join(rows)}

Scalar, and why:

{chr(10).join(reasons) if reasons else "- nothing."}

A hook of your own becomes vector code when it has no branch that the compiler can't turn into a choice, no loop, no division of integers that differ from
key to key, and looks tables up in `float` and `int32_t` (`Table`, `Table2D`), not in bytes (`BitMask`). `math::` has functions without branches. What a
query has (`at.q_pos`, `at.qo_head`) is the same for a whole loop: what is computed from it alone costs once a row.
"""
    return text, unexplained


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    try:
        version = subprocess.run([args.compiler, "-dumpfullversion"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        version = ""
    if args.check and version.split(".")[0] != RELEASE:
        print(f"skipped: the page is of g++ {RELEASE}, {args.compiler} is {version.strip() or 'not there'}")
        return SKIPPED
    flags = dict(flag_sets(args.build.resolve()))
    if args.check and len(flags) < 2:
        print("skipped: this build has one instruction set")
        return SKIPPED
    lines = loop_lines()
    reports = {variant: {isa: report_of(args.compiler, args.build.resolve(), variant, flag, lines) for isa, flag in flags.items()}
               for variant in names_of_variants()}
    page, unexplained = page_of(reports)
    for line in unexplained:
        print(f"tools/vectorisation.py: {line}", file=sys.stderr)
    if args.write:
        PAGE.write_text(page)
    elif args.check:
        if not PAGE.exists() or PAGE.read_text() != page:
            print(f"{PAGE.relative_to(ROOT)} is out of date; run `make pages`", file=sys.stderr)
            return 1
    else:
        print(page)
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
