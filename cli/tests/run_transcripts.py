#!/usr/bin/env python3
"""Runs the commands of transcripts and compares what they print, byte by byte.

    cli/tests/run_transcripts.py --fovea build/fovea cli/tests/*.transcript

A transcript is a list of blocks. `$ fovea ...` is the command (run in an empty folder that has cli/tests/inputs/), the lines below it standard
output, lines that start with `! ` standard error, and the last one the exit code in brackets. FOVEA_UPDATE_GOLDEN=1 rewrites the files.
"""

import argparse
import difflib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parent


def commands_of(text):
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def run(fovea, command, folder):
    words = shlex.split(command)
    if words[0] != "fovea":
        sys.exit(f"transcript: command '{command}' does not start with fovea")
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([fovea, *words[1:]], cwd=folder, env=environment, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)
    lines = done.stdout.decode().splitlines()
    lines += [f"! {line}" for line in done.stderr.decode().splitlines()]
    return "\n".join([f"$ {command}", *(line.rstrip() for line in lines), f"[{done.returncode}]"])


def check(fovea, path, update):
    old = path.read_text()
    preamble = old.split("$ ", 1)[0]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(TESTS / "inputs", folder, dirs_exist_ok=True)
        new = preamble + "\n\n".join(run(fovea, command, folder) for command in commands_of(old)) + "\n"
    if new == old:
        return True
    if update:
        path.write_text(new)
        print(f"{path.name}: rewritten")
        return True
    print("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), f"{path.name} (expected)", f"{path.name} (now)")))
    return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fovea", required=True)
    parser.add_argument("transcripts", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    update = os.environ.get("FOVEA_UPDATE_GOLDEN") == "1"
    results = [check(str(pathlib.Path(arguments.fovea).resolve()), path, update) for path in arguments.transcripts]
    if not all(results):
        sys.exit(f"{results.count(False)} of {len(results)} transcripts differ; FOVEA_UPDATE_GOLDEN=1 rewrites them")


main()
