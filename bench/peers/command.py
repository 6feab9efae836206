"""The command: python bench/peers [SET|WORKLOAD|FILE.json ...]"""

import argparse
import json
import pathlib
import sys
import time

from peers import report
from peers.compare import DeviceLost, compare, timed
from peers.peer import find_peers, why_missing
from peers.workload import BadWorkload, choose, known_sets, read_file

INTERRUPTED = 130


def parse(arguments):
    parser = argparse.ArgumentParser(prog="python bench/peers", description="Fovea beside other attention engines: same tensors, one process, in turns.")
    parser.add_argument("workloads", nargs="*", help="sets (--list has them), workloads of sets, or JSON files; all sets where nothing is given")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="cuda where PyTorch sees a GPU; cpu tries the harness and compares nothing")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME", help="only this one (may be repeated)")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="not this one (may be repeated)")
    parser.add_argument("--rounds", type=int, default=15, help="times that every peer is measured (15)")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="begin no workload after so long")
    parser.add_argument("--json", metavar="FILE", help="results, written again after every workload")
    parser.add_argument("--plot", metavar="FOLDER", help="pictures (needs matplotlib)")
    parser.add_argument("--list", action="store_true", help="workloads and peers, and why a peer is not here")
    parser.add_argument("--show", action="append", default=[], metavar="FILE", help="measure nothing: tables (and --plot) of results, of several runs too")
    parser.add_argument("--markdown", action="store_true", help="with --show: tables for a document")
    parser.add_argument("--no-yardsticks", action="store_true", help="don't measure reading and a matrix product first")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: at least one is needed")
    return parser, options


def chosen_peers(parser, options, peers):
    names = {peer.name for peer in peers}
    for name in options.peer + options.skip:
        if name not in names:
            parser.error(f'no peer "{name}"; known: {", ".join(sorted(names))}')
    return [peer for peer in peers if (not options.peer or peer.name in options.peer) and peer.name not in options.skip]


def pick_device(parser, wanted):
    try:
        import torch
    except ImportError:
        parser.error("this Python has no PyTorch, whose tensors the peers share; run with one that has")
    device = wanted or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here; --device cpu tries the harness")
    return device


def make_lab(device):
    from peers.lab import CpuLab, CudaLab

    return CudaLab() if device == "cuda" else CpuLab()


def list_all(peers, device):
    for name, path in known_sets().items():
        print(f"{name}:")
        for workload in read_file(path):
            print(f"  {workload.name:<32}{workload.describe()}")
    print("peers:")
    print("\n".join(report.peer_lines(describe(peers, device))))


def describe(peers, device):
    found = []
    for peer in peers:
        missing = why_missing(peer, device)
        found.append({"name": peer.name, "about": peer.about, "version": "" if missing else peer.version(), "missing": missing or ""})
    return found


def progress(what):
    """One line that is written over, for people only. Where a peer takes the process with it, this line says which."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{what}")
        sys.stderr.flush()


def keep(options, result):
    if options.json:
        report.write_json(options.json, result)


def run(options, lab, peers, workloads):
    """All points; what was measured is written even where it ends early. Returns (result, exit code)."""
    begin = time.monotonic()
    result = {"command": "bench peers", "date": time.strftime("%Y-%m-%d"), "machine": lab.machine(), "peers": describe(peers, lab.device),
              "rounds": options.rounds, "ended": "", "points": []}
    missing = {peer["name"]: peer["missing"] for peer in result["peers"]}
    result["yardsticks"] = {} if options.no_yardsticks else lab.yardsticks()
    print(", ".join(f"{key} {value}" for key, value in result["machine"].items()))
    print(", ".join(f"{key} {value:.3g}" for key, value in result["yardsticks"].items()))
    print("\n".join(report.peer_lines(result["peers"])), flush=True)
    code = 0
    for number, workload in enumerate(workloads):
        if options.budget and time.monotonic() - begin > options.budget:
            result["ended"] = f"{len(workloads) - number} workloads left out: --budget {options.budget:g} was over"
            break
        result["ended"] = f"the process ended in {workload.name}"  # stays in the file if a peer takes the process with it
        keep(options, result)
        try:
            point = compare(lab, workload, peers, options.rounds, missing, progress)
        except DeviceLost as error:
            result["ended"], code = f"{workload.name}: the device is lost ({error}); run again with --skip of the peer that was last", 1
            break
        except KeyboardInterrupt:
            result["ended"], code = f"interrupted in {workload.name}", INTERRUPTED
            break
        result["points"].append(point)
        result["ended"] = ""
        progress("")
        print("\n" + "\n".join(report.point_lines(point)), flush=True)
    keep(options, result)
    return result, code


def merged(results):
    """One result of several: of a workload measured twice, the later."""
    points = {point["workload"]: point for result in results for point in result["points"]}
    return {**results[-1], "points": list(points.values())}


def show(parser, options):
    results = []
    for name in options.show:
        try:
            results.append(json.loads(pathlib.Path(name).read_text()))
        except (OSError, ValueError) as error:
            parser.error(f"--show {name}: {error}")
    result = merged(results)
    if options.markdown:
        names = sorted({record["name"] for point in result["points"] for record in timed(point)}, key=lambda name: (name != "fovea", name))
        print("\n".join(report.markdown_lines(result["points"])) + "\n")
        print("\n".join(report.peers_table(result["points"], names, lambda record: f"{record['median_us']:.1f}")))
    else:
        for point in result["points"]:
            print("\n".join(report.point_lines(point)) + "\n")
    print("\n".join(report.summary_lines(result["points"])))
    draw(options, result)
    return 0


def draw(options, result):
    if options.plot:
        from peers import plots

        for path in plots.draw(result, options.plot):
            print(path)


def main(arguments=None):
    parser, options = parse(arguments)
    if options.show:
        return show(parser, options)
    peers = chosen_peers(parser, options, find_peers())
    try:
        workloads = choose(options.workloads)
    except BadWorkload as error:
        parser.error(str(error))
    device = pick_device(parser, options.device)
    if options.list:
        list_all(peers, device)
        return 0
    result, code = run(options, make_lab(device), peers, workloads)
    print("\n" + "\n".join(report.summary_lines(result["points"])))
    if result["ended"]:
        print(result["ended"], file=sys.stderr)
    draw(options, result)
    wrong = [f"{record['name']} ({point['workload']})" for point in result["points"] for record in point["peers"] if record["status"] == "wrong"]
    if wrong:
        print("wrong answers, not timed: " + ", ".join(wrong))
    return code or (1 if any(name.startswith("fovea ") for name in wrong) else 0)
