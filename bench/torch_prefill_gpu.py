#!/usr/bin/env python3
"""Prefill beside PyTorch's attention backends on the same GPU in one run, taking turns with `fovea bench prefill --backend cuda`.

    bench/torch_prefill_gpu.py [--fovea build/fovea] [--rounds 3] [--workload NAME ...] [--json FILE]

Runs in a Python that has PyTorch with CUDA. Times are the device's, of chains of calls over two sets of inputs. Ratios above 1: fovea is faster.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
CALLS, SAMPLES = 4, 5


def fovea_points(arguments):
    """One run of all points: {workload: point}."""
    command = [arguments.fovea, "bench", "prefill", "--backend", "cuda", "--pairs", str(SAMPLES), "--json", "-"]
    for name in arguments.workload:
        command += ["--workload", name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: ended with {done.returncode}\n{done.stderr}")
    return {point["workload"]: point for point in json.loads(done.stdout)["points"]}


def shape_of(name):
    """prefill_4x2k_d128_ragged_bf16_g1 is 4 prompts of 2,048 tokens, with as many heads as 2,048 / 128."""
    match = re.fullmatch(r"prefill_(\d+)x(\d+)k_d(\d+)_ragged_bf16_g1", name)
    return tuple(int(text) for text in match.groups()) if match else None


class Sdpa:
    """PyTorch's attention of one shape with one backend."""

    def __init__(self, torch, shape, backend):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        requests, kilo_tokens, dim = shape
        self.torch, self.backend, self.kernel = torch, getattr(SDPBackend, backend), sdpa_kernel
        sizes = (requests, 1024 * kilo_tokens, 2048 // dim, dim)
        self.inputs = [[torch.randn(sizes, device="cuda", dtype=torch.bfloat16).transpose(1, 2) for _ in range(3)] for _ in range(2)]

    def chain(self):
        with self.kernel([self.backend]):
            for call in range(CALLS):
                self.torch.nn.functional.scaled_dot_product_attention(*self.inputs[call % 2], is_causal=True)

    def microseconds(self):
        """Median of a call; None where the backend refuses the shape."""
        try:
            self.chain()
        except RuntimeError:
            return None
        samples = []
        for _ in range(SAMPLES):
            begin, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            self.chain()
            end.record()
            end.synchronize()
            samples.append(begin.elapsed_time(end) * 1e3 / CALLS)
        return statistics.median(samples)


def measure(torch, arguments):
    backends = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION"}
    times = {}
    points = {}
    for _ in range(arguments.rounds):
        points = fovea_points(arguments)
        for name, point in points.items():
            times.setdefault((name, "fovea"), []).append(point["median_us"])
            shape = shape_of(name)
            for key, backend in backends.items() if shape else ():
                us = Sdpa(torch, shape, backend).microseconds()
                if us is not None:
                    times.setdefault((name, key), []).append(us)
    rows = []
    for name, point in points.items():
        row = {"workload": name, "fovea_median_us": statistics.median(times[name, "fovea"])}
        row["fovea_tflop_per_s"] = 1e3 * point["gflop"] / row["fovea_median_us"]
        for key in backends:
            theirs = times.get((name, key))
            if theirs:
                row[f"{key}_median_us"] = statistics.median(theirs)
                row[f"{key}_tflop_per_s"] = 1e3 * point["gflop"] / row[f"{key}_median_us"]
                row[f"ratio_to_{key}"] = statistics.median(t / f for t, f in zip(theirs, times[name, "fovea"]))
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fovea", default=str(ROOT / "build" / "fovea"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workload", action="append", default=[], help="instead of those that fovea times by default")
    parser.add_argument("--json", help="file for the results; - is standard output, and then nothing else goes there")
    arguments = parser.parse_args()
    if not os.access(arguments.fovea, os.X_OK):
        parser.error(f"'{arguments.fovea}' is not a program; build it, or say where it is with --fovea")
    if arguments.rounds < 1:
        parser.error(f"--rounds: {arguments.rounds} is below 1")
    try:
        import torch
    except ImportError:
        parser.error("this Python has no PyTorch; run the script with one that has")
    if not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here")
    torch.manual_seed(1)
    with torch.no_grad():
        rows = measure(torch, arguments)
    if arguments.json != "-":
        print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}; "
              f"TFLOP/s, medians of {arguments.rounds} rounds taking turns")
        print(f"{'workload':<38}{'fovea':>8}{'flash':>8}{'ratio':>8}{'cudnn':>8}{'ratio':>8}")
        text = lambda row, key, digits: f"{row[key]:>8.{digits}f}" if key in row else f"{'-':>8}"
        for row in rows:
            print(f"{row['workload']:<38}{row['fovea_tflop_per_s']:>8.1f}" + text(row, "flash_tflop_per_s", 1) + text(row, "ratio_to_flash", 2)
                  + text(row, "cudnn_tflop_per_s", 1) + text(row, "ratio_to_cudnn", 2))
    if arguments.json:
        output = json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "points": rows}, indent=2) + "\n"
        if arguments.json == "-":
            sys.stdout.write(output)
        else:
            pathlib.Path(arguments.json).write_text(output)


main()
