"""One workload, every peer: prepare, check, and time in turns those that are right.

What touches a device is behind a laboratory (lab.py; the tests have a fake one):

    open(workload) -> bench                      tensors of the workload
    prepare(peer, bench) -> entry                plans, calls once; raises what the peer raises
    error(entry, bench) -> float                 worst error of that call's output
    verdict(error, bench) -> "right" | "coarse" | "wrong"
    chain(entry, bench) -> "graph" | "calls"     gets ready for timing, says how it will be timed
    chain_error(entry, bench) -> float           worst error of what the timed form wrote
    sample(entry, bench) -> microseconds a call
    facts(entry, bench) -> dict                  more keys for the record
    settle()                                     waits; raises DeviceLost if the device is gone
    close(bench)
"""

import time

from peers.peer import Refused, reason, why_missing
from peers.statistics_of import ratio, spread, turns


class DeviceLost(RuntimeError):
    """A peer left the device in an error that only a new process ends."""


def outcome(peer, status, why="", **more):
    return {"name": peer.name, "status": status, "why": why, **more}


def enter(lab, peer, bench):
    """(outcome, entry or None) of a peer before timing."""
    workload = bench.workload
    why = peer.refuses(workload)
    if why:
        return outcome(peer, "refused", why), None
    begin = time.perf_counter()
    try:
        entry = lab.prepare(peer, bench)
        lab.settle()
        record = outcome(peer, "", layout=entry.call.layout, note=entry.call.note, prepare_s=time.perf_counter() - begin)
        record["error"] = lab.error(entry, bench)
        record["status"] = lab.verdict(record["error"], bench)
        if record["status"] != "wrong":
            record["timed_as"] = lab.chain(entry, bench)
            record["error"] = max(record["error"], lab.chain_error(entry, bench))
            record["status"] = lab.verdict(record["error"], bench)
        lab.settle()
    except Refused as error:
        return outcome(peer, "refused", str(error)), None
    except DeviceLost:
        raise
    except Exception as error:  # whatever a peer raises is its answer; the others go on
        lab.settle()
        return outcome(peer, "failed", reason(error)), None
    if record["status"] == "wrong":
        record["why"] = f"worst relative error {record['error']:.2g} against float64"
        return record, None
    return record, entry


def compare(lab, workload, peers, rounds, missing=None, tell=lambda what: None):
    """The record of a point. `missing`: {name: reason} of peers that can't run here; asked for if not given. `tell` hears who is at work."""
    missing = {peer.name: why_missing(peer, lab.device) for peer in peers} if missing is None else missing
    bench = lab.open(workload)
    outcomes, entries = [], {}
    try:
        for peer in peers:
            if missing.get(peer.name):
                outcomes.append(outcome(peer, "missing", missing[peer.name]))
                continue
            tell(f"{workload.name}: {peer.name}")
            record, entry = enter(lab, peer, bench)
            outcomes.append(record)
            if entry is not None:
                entries[peer.name] = entry
        tell(f"{workload.name}: timing {len(entries)} peers")
        samples = take_turns(lab, bench, entries, rounds)
        for record in outcomes:
            if record["name"] in samples:
                record.update(figures(workload, samples, record["name"]), **lab.facts(entries[record["name"]], bench))
    finally:
        entries.clear()
        lab.close(bench)
    return {"workload": workload.name, "about": workload.about, "shape": workload.describe(), "kind": workload.kind, "requests": workload.num_requests,
            "queries": workload.num_tokens, "kv_tokens": workload.distinct_kv_tokens, "kv_bytes": workload.kv_bytes, "flop": workload.flop,
            "peers": outcomes}


def take_turns(lab, bench, entries, rounds):
    """{name: microseconds of every round}. One untimed round comes first."""
    names = list(entries)
    samples = {name: [] for name in names}
    for round_number in range(rounds + 1):
        for turn in turns(len(names), round_number):
            microseconds = lab.sample(entries[names[turn]], bench)
            if round_number:
                samples[names[turn]].append(microseconds)
    return samples


def figures(workload, samples, name):
    mine = samples[name]
    found = spread(mine)
    found["tb_per_s"] = workload.kv_bytes / found["median_us"] / 1e6
    found["tflop_per_s"] = workload.flop / found["median_us"] / 1e6
    if "fovea" in samples:
        found["time_over_fovea"] = ratio(mine, samples["fovea"])
    return found


def timed(point):
    """Outcomes of a point that have times, the fastest first."""
    return sorted((record for record in point["peers"] if "median_us" in record), key=lambda record: record["median_us"])


def best_other(point, layouts=("paged",)):
    """The fastest peer beside fovea that reads its caches in one of `layouts` and is as accurate as the cache; None if there is none."""
    return next((record for record in timed(point) if record["name"] != "fovea" and record["layout"] in layouts and record["status"] == "right"), None)
