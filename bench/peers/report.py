"""Tables for people and one object for scripts. Needs nothing but Python."""

import json
import os
import pathlib

from peers.compare import best_other, timed
from peers.statistics_of import geometric_mean

# Bands of K and V in bytes: up to 32 MB launches weigh most, above 200 MB bandwidth alone.
BANDS = (("up to 32 MB", 0, 32 << 20), ("32 to 200 MB", 32 << 20, 200 * 10**6), ("above 200 MB", 200 * 10**6, 1 << 62))


def error_text(error):
    return f"{error:.1e}" if error is not None else ""


def point_lines(point):
    """The table of one workload."""
    prefill = point["kind"] == "prefill"
    unit = "TFLOP/s" if prefill else "TB/s"
    yield f"{point['workload']}: {point['shape']}"
    yield f"  {'peer':<28}{'us':>9}{'p10':>9}{'p90':>9}{unit:>9}{'/fovea':>8}{'host us':>9}{'error':>9}  remarks"
    for record in timed(point):
        rate = record["tflop_per_s"] if prefill else record["tb_per_s"]
        over = f"{record['time_over_fovea']:.2f}" if "time_over_fovea" in record else ""
        host = f"{record['host_us']:.1f}" if "host_us" in record else ""
        name = record["name"] + ("" if record["layout"] == "paged" else f" ({record['layout']})")
        remarks = [record.get("note", ""), "not in a graph" if record.get("no_graph") else "", "8-bit accuracy" if record["status"] == "coarse" else ""]
        yield (f"  {name:<28}{record['median_us']:>9.1f}{record['p10_us']:>9.1f}{record['p90_us']:>9.1f}{rate:>9.{0 if prefill else 2}f}{over:>8}{host:>9}"
               f"{error_text(record['error']):>9}  {'; '.join(filter(None, remarks))}".rstrip())
    for record in point["peers"]:
        if "median_us" not in record and record["status"] != "missing":
            yield f"  {record['name']:<28}{record['status'].upper() if record['status'] == 'wrong' else record['status']}: {record['why']}"


def ratios(points):
    """[(point, best paged peer, its time over fovea's)] where both were timed."""
    found = []
    for point in points:
        best = best_other(point)
        if best is not None and "time_over_fovea" in best:
            found.append((point, best, best["time_over_fovea"]))
    return found


def ours(point):
    return next(record for record in timed(point) if record["name"] == "fovea")


def markdown_lines(points):
    """The summary as a table for documents: microseconds, rates, and the other's time over fovea's."""
    yield "| workload | Fovea, us | | best paged peer, us (over Fovea) | best dense peer, us (over Fovea) |"
    yield "|---|---|---|---|---|"
    for point, best, _ in ratios(points):
        mine, dense = ours(point), best_other(point, ("dense",))
        rate = f"{mine['tflop_per_s']:.0f} TFLOP/s" if point["kind"] == "prefill" else f"{mine['tb_per_s']:.2f} TB/s"
        cells = [f"{peer['name']} {peer['median_us']:.1f} ({peer['time_over_fovea']:.2f})" if peer else "" for peer in (best, dense)]
        yield f"| {point['workload']} | {mine['median_us']:.1f} | {rate} | {cells[0]} | {cells[1]} |"


def peers_table(points, names, value):
    """A row a workload, a column a peer: value(record) where it was timed, a word where it was not."""
    yield "| workload | " + " | ".join(names) + " |"
    yield "|---|" + "---|" * len(names)
    for point in points:
        records = {record["name"]: record for record in point["peers"]}
        cells = [value(records[name]) if name in records and "median_us" in records[name] else status_word(records.get(name)) for name in names]
        yield f"| {point['workload']} | " + " | ".join(cells) + " |"


def status_word(record):
    return record["status"] if record and record["status"] in ("wrong", "failed") else ""


def summary_lines(points):
    """Fovea against the best paged peer of every point, and the geometric means of decode by bytes."""
    rows = ratios(points)
    if not rows:
        yield "no point has both fovea and a paged peer"
        return
    yield f"{'workload':<32}{'fovea us':>10}{'best paged peer':>24}{'us':>10}{'/fovea':>8}{'best dense peer':>18}{'/fovea':>8}"
    for point, best, over in rows:
        dense = best_other(point, ("dense",))
        beside = f"{dense['name']:>18}{dense['time_over_fovea']:>8.2f}" if dense else ""
        yield f"{point['workload']:<32}{ours(point)['median_us']:>10.1f}{best['name']:>24}{best['median_us']:>10.1f}{over:>8.2f}{beside}"
    for band, value in band_means(points):
        yield f"geometric mean of decode, {band} of K and V: {value:.3f}"


def band_means(points):
    rows = [(point, over) for point, _, over in ratios(points) if point["kind"] == "decode"]
    for name, low, high in BANDS:
        inside = [over for point, over in rows if low < point["kv_bytes"] <= high]
        if inside:
            yield name, geometric_mean(inside)


def peer_lines(peers):
    width = max((len(peer["name"]) for peer in peers), default=0) + 2
    for peer in peers:
        yield f"  {peer['name']:<{width}}{peer['version'] if not peer['missing'] else 'not here: ' + peer['missing']}"


def write_json(path, result):
    """The file appears whole or not at all; infinity, which JSON has not, is null."""
    text = json.dumps(without_infinities(result), indent=1, allow_nan=False) + "\n"
    path = pathlib.Path(path)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text)
    os.replace(scratch, path)


def without_infinities(value):
    if isinstance(value, dict):
        return {key: without_infinities(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_infinities(inner) for inner in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
