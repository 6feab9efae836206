#!/usr/bin/env python3
"""What `make demo` shows must be there: prefix hits, chunked prefills, mixed steps, preemptions, checked steps without a mismatch.

    cli/tests/demo_test.py --fovea build/fovea
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fovea", required=True)
    fovea = str(pathlib.Path(parser.parse_args().fovea).resolve())
    options = re.search(r"^DEMO := (.*)$", (ROOT / "Makefile").read_text(), flags=re.M).group(1)
    done = subprocess.run([fovea, "replay", *shlex.split(options), "--json", "-"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"the demo ended with {done.returncode}: {done.stderr}")
    result = json.loads(done.stdout)
    wanted = {
        "at least 300 requests": result["requests"] >= 300,
        "all requests finished": result["requests"] == result["trace"]["requests"],
        "prefixes found in the cache": result["cache_hit_tokens"] > 0,
        "prompts computed in pieces": result["chunked_prefills"] > 0,
        "steps with prefill and decode": result["mixed_steps"] > 0,
        "a preemption": result["preemptions"] > 0,
        "an eviction": result["evictions"] > 0,
        "20 checked steps": result["checked_steps"] == 20,
        "no mismatch": result["mismatched_steps"] == 0,
        "nothing compiled after prepare": result["compiles_after_prepare"] == 0,
    }
    missing = [name for name, right in wanted.items() if not right]
    for name in missing:
        print(f"the demo does not show: {name}")
    print(f"{len(wanted) - len(missing)} of {len(wanted)} as promised")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
