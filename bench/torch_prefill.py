#!/usr/bin/env python3
"""Prefill beside PyTorch on the same machine in one run: its attention in bf16 and its float32 matmul, taking turns with `fovea bench prefill`.

    bench/torch_prefill.py [--fovea build/fovea] [--rounds 9] [--json FILE]

Makes a virtual environment in build/torch-venv and installs PyTorch for CPUs there on the first run. Ratios above 1: fovea is faster.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parents[1]
VENV = ROOT / "build" / "torch-venv"
TORCH = "2.13.0"
WORKLOADS = ["prefill_b1_2k", "prefill_b1_8k"]
MATMUL = 2048       # rows, columns and depth
SETTLE = 0.3        # seconds: worker threads of PyTorch spin for a while after their work and would slow down whoever comes next


def enter_venv():
    """Runs this script again with a Python that has PyTorch, unless this one is it."""
    python = VENV / "bin" / "python"
    if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
        return
    ready = python.exists() and subprocess.run([python, "-c", f"import torch; assert torch.__version__.split('+')[0] == '{TORCH}'"],
                                               capture_output=True).returncode == 0
    if not ready:
        print(f"installing PyTorch {TORCH} for CPUs into {VENV}", file=sys.stderr)
        venv.create(VENV, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "numpy", f"torch=={TORCH}"], check=True, stdout=sys.stderr)
    os.execv(python, [str(python), *sys.argv])


def fovea_once(fovea, workload, threads):
    """One timed run of the engine: the point that `bench prefill` reports."""
    command = [fovea, "bench", "prefill", "--workload", workload, "--pairs", "1", "--threads", str(threads), "--json", "-"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["points"][0]


def microseconds(function):
    begin = time.perf_counter()
    function()
    return (time.perf_counter() - begin) * 1e6


def inputs_of(torch, workload):
    description = json.loads((ROOT / "workloads" / f"{workload}.json").read_text())
    spec, request = description["spec"], description["requests"][0]
    if spec["num_qo_heads"] != spec["num_kv_heads"] or request["qo_len"] != request["kv_len"]:
        sys.exit(f"{workload}: PyTorch's side is written for equal heads and one whole prompt")
    shape = (1, spec["num_qo_heads"], request["qo_len"], spec["head_dim_qk"])
    return [torch.randn(shape).to(torch.bfloat16) for _ in range(3)]


def measure(torch, fovea, workload, rounds):
    q, k, v = inputs_of(torch, workload)
    a, b = torch.randn(MATMUL, MATMUL), torch.randn(MATMUL, MATMUL)
    threads = torch.get_num_threads()
    sdpa = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    matmul = lambda: torch.matmul(a, b)
    times = {"fovea": [], "sdpa": [], "matmul": []}
    for each in range(rounds):
        for name, function in (("sdpa", sdpa), ("matmul", matmul)):
            function()
            times[name].append(microseconds(function))
        time.sleep(SETTLE)
        point = fovea_once(fovea, workload, threads)
        times["fovea"].append(point["median_us"])
        if sys.stderr.isatty():
            print(f"\r{workload}: round {each + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    flop, matmul_flop = point["gflop"] * 1e9, 2.0 * MATMUL**3
    pairs = list(zip(*times.values()))
    return {
        "workload": point["workload"],
        "fovea_median_us": statistics.median(times["fovea"]),
        "sdpa_median_us": statistics.median(times["sdpa"]),
        "matmul_median_us": statistics.median(times["matmul"]),
        "gflop_per_s": flop / statistics.median(times["fovea"]) / 1e3,
        "matmul_gflop_per_s": matmul_flop / statistics.median(times["matmul"]) / 1e3,
        "ratio_to_sdpa": statistics.median(s / f for f, s, _ in pairs),
        "ratio_to_matmul": statistics.median((flop / f) / (matmul_flop / m) for f, _, m in pairs),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fovea", default=str(ROOT / "build" / "fovea"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="file for the results; - is standard output, and then nothing else goes there")
    arguments = parser.parse_args()
    if not os.access(arguments.fovea, os.X_OK):
        parser.error(f"'{arguments.fovea}' is not a program; build it, or say where it is with --fovea")
    if arguments.rounds < 1:
        parser.error(f"--rounds: {arguments.rounds} is below 1")
    enter_venv()
    import torch  # in the virtual environment alone

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    with torch.no_grad():
        points = [measure(torch, arguments.fovea, workload, arguments.rounds) for workload in WORKLOADS]
    if arguments.json != "-":
        print(f"PyTorch {torch.__version__}, {threads} threads, medians of {arguments.rounds} rounds taking turns")
        print(f"{'workload':<20}{'fovea':>12}{'SDPA bf16':>12}{'ratio':>8}{'GFLOP/s':>10}{'matmul f32':>12}{'ratio':>8}")
        for p in points:
            print(f"{p['workload']:<20}{p['fovea_median_us'] / 1e3:>9.1f} ms{p['sdpa_median_us'] / 1e3:>9.1f} ms{p['ratio_to_sdpa']:>8.2f}"
                  f"{p['gflop_per_s']:>10.1f}{p['matmul_gflop_per_s']:>12.1f}{p['ratio_to_matmul']:>8.2f}")
    if arguments.json:
        text = json.dumps({"torch": torch.__version__, "threads": threads, "points": points}, indent=2) + "\n"
        if arguments.json == "-":
            sys.stdout.write(text)
        else:
            pathlib.Path(arguments.json).write_text(text)


main()
