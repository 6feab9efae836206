#!/usr/bin/env python3
"""Plants defects one at a time and demands that `fovea check` finds each.

    tools/mutation.py                    all of tools/mutation_defects.py; exit code 1 if one of them is not found
    tools/mutation.py --only causal      those whose name contains the text
    tools/mutation.py --list             names alone

Works on a copy of the tree in build/mutation/, so that the tree itself is never touched and a killed run leaves nothing behind. Builds the
command for one instruction set, without tests; every defect rebuilds what it touches.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time

from mutation_defects import DEFECTS

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCE = ROOT / "build" / "mutation"
BUILD = SOURCE / "build"  # as deep in its tree as everywhere, so that ccache knows its commands


def copy_tree():
    """Tracked files as they are now. A file that didn't change keeps its time, so that a second run builds little."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    wanted = {name for name in tracked if name and (ROOT / name).is_file()}
    for name in wanted:
        here, there = ROOT / name, SOURCE / name
        if not there.exists() or there.read_bytes() != here.read_bytes():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(here, there)
    for path in [p for p in SOURCE.rglob("*") if p.is_file() and BUILD not in p.parents and str(p.relative_to(SOURCE)) not in wanted]:
        path.unlink()


def configure(isa):
    command = ["cmake", "-S", SOURCE, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DFOVEA_BUILD_TESTS=OFF",
               f"-DFOVEA_CPU_ISAS={isa}"]
    if shutil.which("ccache"):
        command.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def build(jobs):
    """Empty, or the compiler's words."""
    ninja = subprocess.run(["ninja", "-C", BUILD, f"-j{jobs}", "fovea_cli"], capture_output=True, text=True)
    return "" if ninja.returncode == 0 else ninja.stdout[-2000:]


def check(cases, seed, time_limit):
    """Exit code of the check (None: over time, a crash is negative) and its last line."""
    command = [BUILD / "fovea", "check", "--backend", "cpu", "--cases", str(cases), "--seed", str(seed)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=time_limit)
    except subprocess.TimeoutExpired:
        return None, f"no end after {time_limit} s"
    lines = (run.stdout + run.stderr).strip().splitlines()
    return run.returncode, lines[-1] if lines else ""


def plant(replacements):
    """Returns what undoes it: {path: text}."""
    before = {}
    for file, old, new in replacements:
        path = SOURCE / file
        text = path.read_text()
        if text.count(old) != 1:
            raise SystemExit(f"mutation: {file} has {text.count(old)} places with\n{old}\nA defect needs exactly one: "
                             "move it along with the code in tools/mutation_defects.py")
        before.setdefault(path, text)
        path.write_text(text.replace(old, new))
    return before


def undo(before):
    for path, text in before.items():
        path.write_text(text)


def verdict_of(code, errors):
    if errors:
        return "does not build"
    if code == 1:
        return "found"
    if code == 0:
        return "NOT FOUND"
    return "found (no end)" if code is None else f"found (crash, exit {code})" if code < 0 else f"exit code {code}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--isa", default="avx2")
    args = parser.parse_args()
    chosen = {name: replacements for name, replacements in DEFECTS.items() if args.only in name}
    if args.list:
        print("\n".join(chosen))
        return 0

    copy_tree()
    for replacements in chosen.values():  # before anything is built: a list that is out of date is known at once
        undo(plant(replacements))
    configure(args.isa)
    errors = build(args.jobs)
    if errors:
        raise SystemExit(f"mutation: the tree does not build without a defect\n{errors}")
    code, last = check(args.cases, args.seed, 1200)
    if code != 0:
        raise SystemExit(f"mutation: the check fails without a defect: {last}")
    print(f"without a defect: {last}", flush=True)

    missed = 0
    for name, replacements in chosen.items():
        started = time.monotonic()
        before = plant(replacements)
        errors = build(args.jobs)
        code, last = (None, "") if errors else check(args.cases, args.seed, 600)
        undo(before)
        verdict = verdict_of(code, errors)
        missed += not verdict.startswith("found")
        print(f"{verdict:24} {name:48} {time.monotonic() - started:4.0f} s  {errors[-300:] if errors else last}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} defects found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
