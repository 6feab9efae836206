#!/usr/bin/env python3
"""The harness: what it reads, what it computes from times, and that a wrong answer is said and never timed. Without PyTorch the last part is left out."""

import contextlib
import importlib.util
import io
import json
import math
import os
import pathlib
import sys
import tempfile
import types
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path = [entry for entry in sys.path if pathlib.Path(entry or ".").resolve() != pathlib.Path(__file__).resolve().parent]

from peers import command, compare, pages, peer, report, statistics_of, workload  # noqa: E402

try:
    import torch
except ImportError:
    torch = None


def parse(**keys):
    return workload.read_one({"name": "w"} | keys, {}, "w", "file")


def one(qo_len, kv_len, count=1, **keys):
    return parse(requests=[{"count": count, "qo_len": qo_len, "kv_len": kv_len}], **keys)


class Workloads(unittest.TestCase):
    def test_sets_of_the_tree_load_and_names_are_unique(self):
        names = [found.name for path in workload.known_sets().values() for found in workload.read_file(path)]
        self.assertEqual(len(names), len(set(names)))
        for name in ("decode_64x4k", "decode_34x4k", "decode_zipf_64_of_256k", "prefill_16_zipf_gqa8", "mixed_1x2k_and_64x4k"):
            self.assertIn(name, names)

    def test_nothing_wanted_is_every_set_but_check(self):
        names = [found.name for found in workload.choose([])]
        self.assertIn("decode_1x1k", names)
        self.assertNotIn("check_even", names)

    def test_names_sets_and_files_mix_and_count_once(self):
        names = [found.name for found in workload.choose(["decode_4x4k", "decode", "decode_4x4k"])]
        self.assertEqual(names[0], "decode_4x4k")
        self.assertEqual(names.count("decode_4x4k"), 1)
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "mine.json"
            path.write_text('{"requests": [{"qo_len": 1, "kv_len": 7}]}')
            self.assertEqual([found.name for found in workload.choose([str(path)])], ["mine"])

    def test_drawn_lengths(self):
        self.assertEqual(one(1, {"zipf_total": 100}, count=4).kv_lens, one(1, {"zipf_total": 100}, count=4).kv_lens)
        self.assertEqual(workload.zipf_lengths(4, 100), [48, 24, 16, 12])
        self.assertEqual(workload.zipf_lengths(3, 101), [56, 27, 18])  # what rounding leaves, 55 + 27 + 18 = 100, goes to the longest
        self.assertEqual(sum(workload.zipf_lengths(64, 262144)), 262144)
        self.assertEqual(sorted(one(1, {"zipf_total": 100}, count=4).kv_lens), [12, 16, 24, 48])
        self.assertEqual(sorted(one(1, {"zipf": [25, 120]}, count=5).kv_lens, reverse=True), [120, 60, 40, 30, 25])
        uniform = one(1, {"uniform": [5, 9]}, count=200).kv_lens
        self.assertEqual((min(uniform), max(uniform)), (5, 9))

    def test_prompts_query_all_their_tokens(self):
        found = one("kv_len", {"uniform": [3, 90]}, count=20)
        self.assertEqual(found.qo_lens, found.kv_lens)
        self.assertGreater(len(set(found.kv_lens)), 3)

    def test_bytes_and_flop_are_those_of_the_pairs(self):
        found = parse(requests=[{"qo_len": 3, "kv_len": 10}, {"qo_len": 2, "kv_len": 2}],
                      spec={"num_qo_heads": 6, "num_kv_heads": 3, "head_dim_qk": 8, "head_dim_vo": 4})
        pairs = sum(1 for qo, kv in ((3, 10), (2, 2)) for query in range(qo) for key in range(kv) if key <= query + kv - qo)
        self.assertEqual(found.flop, 2 * 6 * (8 + 4) * pairs)
        self.assertEqual(found.kv_bytes, 12 * 3 * (8 + 4) * 2)
        self.assertEqual(one(3, 10, spec={"variant": "full", "head_dim_qk": 8, "num_qo_heads": 2, "num_kv_heads": 1}).flop, 2 * 2 * 16 * 30)

    def test_shared_prefix_and_latent_caches_count_once(self):
        shared = one(1, 48, count=5, shared_prefix={"tokens": 32, "requests": 2}, spec={"head_dim_qk": 8, "num_kv_heads": 1, "num_qo_heads": 1})
        self.assertEqual(shared.distinct_kv_tokens, 5 * 48 - 2 * 32)
        latent = one(1, 10, spec={"num_qo_heads": 2, "num_kv_heads": 1, "head_dim_qk": 576, "head_dim_vo": 512, "value_columns": True})
        self.assertEqual(latent.kv_bytes, 10 * 576 * 2)

    def test_kinds(self):
        self.assertEqual(one(1, 64).kind, "decode")
        self.assertEqual(one(64, 64).kind, "prefill")
        self.assertEqual(parse(requests=[{"qo_len": 1, "kv_len": 64}, {"qo_len": 64, "kv_len": 64}]).kind, "mixed")

    def test_mistakes_are_named(self):
        request = {"qo_len": 1, "kv_len": 4}
        for text, keys in {
            "file.requests[0].kv_len": {"requests": [{"qo_len": 1, "kv_len": "long"}]},
            "1 <= qo_len <= kv_len": {"requests": [{"qo_len": 5, "kv_len": 4}]},
            "does not divide num_qo_heads = 5": {"requests": [request], "spec": {"num_qo_heads": 5, "num_kv_heads": 2}},
            'unknown key "heads"': {"requests": [request], "spec": {"heads": 5}},
            'variant "alibi"': {"requests": [request], "spec": {"variant": "alibi"}},
            'dtype = "int4"': {"requests": [request], "spec": {"kv_dtype": "int4"}},
            "is not a list": {"requests": []},
            "whole pages of 16": {"requests": [{"qo_len": 1, "kv_len": 64}], "shared_prefix": {"tokens": 17, "requests": 2}},
            "but a request has 4": {"requests": [request], "shared_prefix": {"tokens": 16, "requests": 2}},
            "page_size = 0": {"requests": [request], "spec": {"format": {"page_size": 0}}},
        }.items():
            with self.subTest(text), self.assertRaises(workload.BadWorkload) as caught:
                parse(**keys)
            self.assertIn(text, str(caught.exception))
        with self.assertRaisesRegex(workload.BadWorkload, 'no set, workload or file "decod"'):
            workload.choose(["decod"])
        with self.assertRaisesRegex(workload.BadWorkload, "No such file"):
            workload.choose(["missing.json"])


class Pages(unittest.TestCase):
    def test_every_page_once_and_enough_of_them(self):
        found = pages.deal(one(1, {"uniform": [1, 70]}, count=20))
        lengths = one(1, {"uniform": [1, 70]}, count=20).kv_lens
        self.assertEqual([len(entry) for entry in found.lists], [math.ceil(length / 16) for length in lengths])
        self.assertEqual(sorted(found.indices), list(range(found.num_pages)))
        self.assertNotEqual(found.indices, sorted(found.indices))
        self.assertEqual(found.indptr[-1], found.num_pages)

    def test_a_shared_prefix_is_the_same_pages(self):
        found = pages.deal(one(1, 48, count=5, shared_prefix={"tokens": 32, "requests": 2}))
        self.assertEqual(found.lists[0][:2], found.lists[1][:2])
        self.assertEqual(found.lists[2][:2], found.lists[3][:2])
        self.assertNotEqual(found.lists[0][:2], found.lists[2][:2])
        self.assertEqual(sorted(set(found.indices)), list(range(3 * 3 + 2)))
        self.assertEqual(found.num_pages, 3 * 3 + 2)

    def test_copies_are_a_gibibyte_where_they_fit(self):
        self.assertEqual(pages.num_copies(4 << 20, 10 << 30), 256)
        self.assertEqual(pages.num_copies(1 << 20, 10 << 30), 256)
        self.assertEqual(pages.num_copies(3 << 30, 10 << 30), 2)
        self.assertEqual(pages.num_copies(9 << 30, 10 << 30), 1)

    def test_calls_take_every_copy_as_often(self):
        for copies, us in ((1, 1e6), (2, 250.0), (5, 70.0), (256, 8.0)):
            calls = pages.num_calls(copies, us)
            self.assertGreaterEqual(calls, 32)
            self.assertEqual(calls % copies, 0)


class Statistics(unittest.TestCase):
    def test_quantiles(self):
        self.assertEqual(statistics_of.quantile([4, 1, 3, 2, 5], 0.5), 3)
        self.assertAlmostEqual(statistics_of.quantile([1, 2, 3, 4, 5], 0.1), 1.4)
        self.assertEqual(statistics_of.quantile([7], 0.9), 7)

    def test_a_ratio_is_of_rounds_not_of_medians(self):
        self.assertEqual(statistics_of.ratio([2, 20, 6], [1, 10, 100]), 2)
        with self.assertRaises(ValueError):
            statistics_of.ratio([1, 2], [1])

    def test_everyone_is_first_once(self):
        rounds = [statistics_of.turns(4, number) for number in range(4)]
        self.assertEqual([order[0] for order in rounds], [0, 1, 2, 3])
        self.assertTrue(all(sorted(order) == [0, 1, 2, 3] for order in rounds))

    def test_geometric_mean(self):
        self.assertAlmostEqual(statistics_of.geometric_mean([0.5, 8]), 2)


class FakePeer(peer.Peer):
    """Says what it is told to; its times grow by a tenth of a microsecond a sample."""

    devices = ("fake",)

    def __init__(self, name, us=10.0, error=1e-3, chain_error=None, raises=None, refusal=None, absent=None, layout="paged"):
        self.name, self.us, self.wrong_by, self.raises, self.refusal, self.absent = name, us, error, raises, refusal, absent
        self.chain_wrong_by = error if chain_error is None else chain_error
        self.layout = layout

    def missing(self):
        if isinstance(self.absent, Exception):
            raise self.absent
        return self.absent

    def version(self):
        return "1"

    def refuses(self, workload):
        return self.refusal

    def prepare(self, batch):
        if self.raises:
            raise self.raises
        return peer.Call(run=lambda copy: None, layout=self.layout)


class FakeLab:
    """Times and errors are the peer's; the order of samples is kept. `dies_of`: the peer after which the device is gone."""

    device = "fake"

    def __init__(self, dies_of=None):
        self.sampled, self.closed, self.dies_of, self.last = [], 0, dies_of, None

    def open(self, found):
        return types.SimpleNamespace(workload=found)

    def prepare(self, who, bench):
        self.last = who.name
        return types.SimpleNamespace(peer=who, call=who.prepare(bench))

    def error(self, entry, bench):
        return entry.peer.wrong_by

    def chain_error(self, entry, bench):
        return entry.peer.chain_wrong_by

    def verdict(self, error, bench):
        return "right" if error <= 1e-2 else "coarse" if bench.workload.kv_dtype == "e4m3" and error <= 8e-2 else "wrong"

    def chain(self, entry, bench):
        return "graph"

    def sample(self, entry, bench):
        self.sampled.append(entry.peer.name)
        return entry.peer.us + 0.1 * self.sampled.count(entry.peer.name)

    def facts(self, entry, bench):
        return {"calls": 32}

    def settle(self):
        if self.last is not None and self.last == self.dies_of:
            raise compare.DeviceLost("illegal address")

    def close(self, bench):
        self.closed += 1

    def machine(self):
        return {"device": "fake"}

    def yardsticks(self):
        return {"read_tb_per_s": 4.0}


def by_name(point):
    return {record["name"]: record for record in point["peers"]}


class Comparing(unittest.TestCase):
    def test_a_wrong_peer_is_said_and_never_timed(self):
        lab = FakeLab()
        found = by_name(compare.compare(lab, one(1, 64), [FakePeer("good"), FakePeer("bad", error=0.3), FakePeer("nan", error=math.inf)], rounds=3))
        self.assertEqual([found[name]["status"] for name in ("good", "bad", "nan")], ["right", "wrong", "wrong"])
        self.assertNotIn("median_us", found["bad"])
        self.assertIn("0.3", found["bad"]["why"])
        self.assertEqual(set(lab.sampled), {"good"})

    def test_one_that_is_wrong_in_the_timed_form_only_is_not_timed_either(self):
        lab = FakeLab()
        found = by_name(compare.compare(lab, one(1, 64), [FakePeer("stale", chain_error=1.4)], rounds=3))
        self.assertEqual((found["stale"]["status"], lab.sampled), ("wrong", []))

    def test_a_wrong_fovea_gives_no_ratio(self):
        found = by_name(compare.compare(FakeLab(), one(1, 64), [FakePeer("fovea", error=1.0), FakePeer("other")], rounds=3))
        self.assertNotIn("time_over_fovea", found["other"])

    def test_whatever_stops_a_peer_is_a_reason_and_the_others_go_on(self):
        peers = [FakePeer("raises", raises=RuntimeError("no kernel\nsecond line")), FakePeer("no", refusal="takes page 64 only"), FakePeer("away", absent="not installed"),
                 FakePeer("broken", absent=OSError("libx.so")), FakePeer("later", raises=peer.Refused("group 3")), FakePeer("good")]
        found = by_name(compare.compare(FakeLab(), one(1, 64), peers, rounds=2))
        self.assertEqual({name: record["status"] for name, record in found.items()},
                         {"raises": "failed", "no": "refused", "away": "missing", "broken": "missing", "later": "refused", "good": "right"})
        self.assertEqual(found["raises"]["why"], "RuntimeError: no kernel second line")
        self.assertEqual((found["no"]["why"], found["away"]["why"], found["broken"]["why"], found["later"]["why"]),
                         ("takes page 64 only", "not installed", "OSError: libx.so", "group 3"))

    def test_rounds_rotate_and_the_first_does_not_count(self):
        lab = FakeLab()
        found = by_name(compare.compare(lab, one(1, 64), [FakePeer("a"), FakePeer("b", us=20)], rounds=3))
        self.assertEqual(lab.sampled, ["a", "b", "b", "a", "a", "b", "b", "a"])
        self.assertAlmostEqual(found["a"]["median_us"], 10.3)  # samples 2, 3 and 4 of it
        self.assertEqual(lab.closed, 1)

    def test_figures(self):
        found = by_name(compare.compare(FakeLab(), one(1, 1024), [FakePeer("fovea"), FakePeer("x", us=20)], rounds=1))
        self.assertAlmostEqual(found["x"]["tb_per_s"], 1024 * 8 * 256 * 2 / 20.2 / 1e6)
        self.assertAlmostEqual(found["x"]["time_over_fovea"], 20.2 / 10.2)

    def test_coarse_answers_are_timed_but_never_the_best(self):
        point = compare.compare(FakeLab(), one(1, 64, spec={"kv_dtype": "e4m3"}), [FakePeer("fovea"), FakePeer("coarse", us=1, error=5e-2), FakePeer("fine", us=30)], rounds=1)
        self.assertEqual(by_name(point)["coarse"]["status"], "coarse")
        self.assertIn("median_us", by_name(point)["coarse"])
        self.assertEqual(compare.best_other(point)["name"], "fine")

    def test_dense_peers_are_no_paged_peers(self):
        point = compare.compare(FakeLab(), one(1, 64), [FakePeer("fovea"), FakePeer("dense", us=1, layout="dense"), FakePeer("paged", us=30)], rounds=1)
        self.assertEqual(compare.best_other(point)["name"], "paged")
        self.assertEqual(compare.best_other(point, layouts=("dense", "paged"))["name"], "dense")


def options(**changes):
    return types.SimpleNamespace(**{"rounds": 1, "budget": None, "json": None, "no_yardsticks": False, **changes})


def run_quietly(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        result, code = command.run(*arguments)
    return result, code, out.getvalue()


class Running(unittest.TestCase):
    def test_results_are_kept_when_the_device_is_lost(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.json"
            lab = FakeLab()
            peers = [FakePeer("good"), FakePeer("killer", refusal=None)]
            lab.settle = lambda: (_ for _ in ()).throw(compare.DeviceLost("illegal address")) if lab.last == "killer" and len(lab.sampled) > 3 else None
            _, code, _ = run_quietly(options(json=str(path)), lab, peers, [one(1, 64), one(1, 65), one(1, 66)])
            written = json.loads(path.read_text())
        self.assertEqual((code, len(written["points"])), (1, 1))
        self.assertIn("illegal address", written["ended"])

    def test_a_peer_that_takes_the_process_leaves_its_workload_in_the_file(self):
        class Exit(FakePeer):
            def prepare(self, batch):
                raise SystemExit(127)  # as near as a test can come to an unresolved symbol

        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.json"
            with self.assertRaises(SystemExit):
                run_quietly(options(json=str(path)), FakeLab(), [FakePeer("good"), Exit("exit")], [one(1, 64, name="first")])
            self.assertEqual(json.loads(path.read_text())["ended"], "the process ended in first")

    def test_a_budget_leaves_workloads_out_and_says_so(self):
        result, code, _ = run_quietly(options(budget=1e-9), FakeLab(), [FakePeer("good")], [one(1, 64), one(1, 65)])
        self.assertEqual((code, result["points"]), (0, []))
        self.assertIn("2 workloads left out", result["ended"])

    def test_json_has_no_infinity(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "results.json"
            run_quietly(options(json=str(path)), FakeLab(), [FakePeer("nan", error=math.inf), FakePeer("good")], [one(1, 64)])
            records = json.loads(path.read_text(), parse_constant=self.fail)["points"][0]["peers"]
            self.assertEqual(sorted(entry.name for entry in pathlib.Path(folder).iterdir()), ["results.json"])
        self.assertIsNone(records[0]["error"])

    def test_tables(self):
        peers = [FakePeer("fovea", us=10), FakePeer("fast", us=5, layout="dense"), FakePeer("paged", us=20), FakePeer("bad", error=1.0), FakePeer("no", refusal="why not"),
                 FakePeer("away", absent="not installed")]
        result, _, text = run_quietly(options(), FakeLab(), peers, [one(1, 64)])
        lines = [line for line in text.splitlines() if line.startswith("  ")]
        order = [line.split()[0] for line in lines if line.split()[0] in ("fast", "fovea", "paged")][-3:]
        self.assertEqual(order, ["fast", "fovea", "paged"])
        self.assertIn("fast (dense)", text)
        self.assertRegex(text, r"bad +WRONG: worst relative error 1")
        self.assertRegex(text, r"no +refused: why not")
        self.assertRegex(text, r"away +not here: not installed")
        summary = "\n".join(report.summary_lines(result["points"]))
        self.assertRegex(summary, r"w +10\.2 +paged +20\.2 +1\.98 +fast +0\.51")
        markdown = list(report.markdown_lines(result["points"]))
        self.assertEqual(markdown[-1], "| w | 10.2 | 0.03 TB/s | paged 20.2 (1.98) | fast 5.2 (0.51) |")
        table = list(report.peers_table(result["points"], ["fovea", "bad", "no", "gone"], lambda record: "x"))
        self.assertEqual(table[-1], "| w | x | wrong |  |  |")
        self.assertRegex(summary, r"up to 32 MB of K and V: 1\.980")

    def test_no_ratio_without_both_sides(self):
        result, _, _ = run_quietly(options(), FakeLab(), [FakePeer("paged")], [one(1, 64)])
        self.assertEqual(list(report.summary_lines(result["points"])), ["no point has both fovea and a paged peer"])


@unittest.skipUnless(importlib.util.find_spec("matplotlib"), "no matplotlib here")
class Pictures(unittest.TestCase):
    def test_every_peer_and_point_is_in_them(self):
        from peers import plots

        peers = [FakePeer("fovea", us=10), FakePeer("other", us=20), FakePeer("bad", error=1.0)]
        result, _, _ = run_quietly(options(), FakeLab(), peers, workload.choose(["decode_1x1k", "decode_16_zipf_gqa4", "prefill_16_constant_mha"]))
        elsewhere, _, _ = run_quietly(options(), FakeLab(), [FakePeer("elsewhere")], workload.choose(["decode_16x1k_16_1"]))
        result["points"] += elsewhere["points"]
        with tempfile.TemporaryDirectory() as folder:
            paths = plots.draw(result, folder)
            texts = {path.name: path.read_text() for path in paths}
        self.assertEqual(sorted(texts), ["dynamism.svg", "points.svg"])
        for text in ("decode_1x1k", "fovea", "other"):
            self.assertIn(f"<!-- {text} -->", texts["points.svg"])
        self.assertNotIn("<!-- bad -->", texts["points.svg"])
        self.assertIn("<!-- zipf -->", texts["dynamism.svg"])
        self.assertIn("<!-- elsewhere -->", texts["points.svg"])
        self.assertNotIn("<!-- elsewhere -->", texts["dynamism.svg"])

    def test_nothing_timed_draws_nothing(self):
        from peers import plots

        result, _, _ = run_quietly(options(), FakeLab(), [FakePeer("bad", error=1.0)], workload.choose(["decode_1x1k"]))
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(plots.draw(result, folder), [])


class CommandLine(unittest.TestCase):
    def test_show_joins_runs_and_the_later_wins(self):
        with tempfile.TemporaryDirectory() as folder:
            files = [str(pathlib.Path(folder) / name) for name in ("a.json", "b.json")]
            for path, us in zip(files, (10, 40)):
                run_quietly(options(json=path), FakeLab(), [FakePeer("fovea", us=us), FakePeer("paged", us=80)], workload.choose(["decode_1x1k", "decode_4x4k"][:2 if us == 10 else 1]))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                code = command.main(["--show", files[0], "--show", files[1], "--markdown"])
        self.assertEqual(code, 0)
        self.assertRegex(out.getvalue(), r"\| decode_1x1k \| 40\.2 ")
        self.assertRegex(out.getvalue(), r"\| decode_4x4k \| 10\.4 ")

    def complaint(self, *arguments):
        with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()), self.assertRaises(SystemExit) as caught:
            command.main(list(arguments))
        self.assertEqual(caught.exception.code, 2)
        return err.getvalue()

    def test_mistakes(self):
        self.assertIn("--show /nowhere.json: ", self.complaint("--show", "/nowhere.json"))
        self.assertIn('no peer "fove"', self.complaint("--peer", "fove"))
        self.assertIn("--rounds 0", self.complaint("--rounds", "0"))
        self.assertIn('no set, workload or file "xyz"', self.complaint("xyz"))

    @unittest.skipIf(torch, "PyTorch is here")
    def test_without_pytorch_it_says_so(self):
        self.assertIn("no PyTorch", self.complaint("check"))


class Contestants(unittest.TestCase):
    def test_every_file_has_a_peer_that_loads_without_its_package(self):
        files = [path.stem for path in (pathlib.Path(__file__).parent / "contestants").glob("*.py") if path.stem != "__init__"]
        found = peer.find_peers()
        self.assertEqual(sorted(type(entry).__module__.split(".")[-1] for entry in found), sorted(files))
        for entry in found:
            self.assertTrue(entry.name and entry.about and entry.devices, entry)
            self.assertRegex(entry.name, "^[a-z0-9_]+$")

    def test_files_of_vllm_are_looked_for_in_the_folder_named(self):
        from peers import vllm_files

        with tempfile.TemporaryDirectory() as folder, unittest.mock.patch.dict(os.environ, {vllm_files.VARIABLE: folder}):
            self.assertEqual(vllm_files.vllm_folder(), (pathlib.Path(folder), False))
            with self.assertRaisesRegex(FileNotFoundError, f"a/b.so is not in {folder}"):
                vllm_files.vllm_file("a/b.so")
            (pathlib.Path(folder) / "b.so").touch()
            self.assertEqual(vllm_files.vllm_file("b.so"), pathlib.Path(folder) / "b.so")

    def test_vllm_splits_where_it_would(self):
        from peers.contestants.vllm_triton import split_threshold

        self.assertEqual([split_threshold(heads) for heads in (1, 4, 8, 32, 128)], [128, 32, 16, 4, 1])

    def test_nobody_runs_on_a_device_that_is_not_there(self):
        self.assertTrue(all(peer.why_missing(entry, "fake") for entry in peer.find_peers()))


if torch:
    from peers import reference
    from peers.batch import Batch, Pools
    from peers.lab import CpuLab

    class Gather(peer.Peer):
        """A right answer by the plainest way, over any cache; subclasses plant one defect each."""

        name, devices = "gather", ("cpu",)
        shift, scale, copy_of, skip_row, layout, claims = 0, 1.0, staticmethod(lambda copy: copy), None, "paged", "paged"

        def prepare(self, batch):
            def run(copy):
                for request, (qo_len, kv_len) in enumerate(zip(batch.workload.qo_lens, batch.workload.kv_lens)):
                    k, v = batch.request_kv(self.copy_of(copy), request, self.layout)
                    at = slice(batch.qo_indptr_list[request], batch.qo_indptr_list[request] + qo_len)
                    rows = torch.arange(qo_len) + (kv_len - qo_len if batch.workload.causal else kv_len) + self.shift
                    hidden = torch.arange(kv_len)[None] > rows[:, None]
                    group = batch.workload.group_size
                    logits = torch.einsum("qhd,khd->hqk", batch.q[copy][at].float(), k.float().repeat_interleave(group, 1)) * batch.sm_scale * self.scale
                    weights = logits.masked_fill(hidden, -math.inf).softmax(-1)
                    batch.o[at] = torch.einsum("hqk,khd->qhd", weights, v.float().repeat_interleave(group, 1)).to(batch.o.dtype)
                if self.skip_row is not None:
                    batch.o[self.skip_row] = math.nan
                return batch.o

            return peer.Call(run, layout=self.claims)

    def planted(label, **changes):
        return type("Planted", (Gather,), {"name": label, **changes})()

    class OnTheCpu(unittest.TestCase):
        def outcomes(self, name, peers):
            return by_name(compare.compare(CpuLab(), workload.choose([name])[0], peers, rounds=1))

        def test_right_answers_are_right_for_every_workload_of_the_set(self):
            for found in workload.choose(["check"]):
                with self.subTest(found.name):
                    record = by_name(compare.compare(CpuLab(), found, [Gather()], rounds=1))["gather"]
                    self.assertEqual((record["status"], record["why"]), ("right", ""))

        def test_planted_defects_are_found(self):
            defects = {
                "a mask off by one": planted("late", shift=-1), "a scale": planted("scaled", scale=1.01), "a copy that never changes": planted("stale", copy_of=staticmethod(lambda copy: 0)),
                "a row never written": planted("gap", skip_row=2), "another order of the cache": planted("order", claims="dense"),
            }
            for label, defect in defects.items():
                with self.subTest(label):
                    record = self.outcomes("check_even", [defect])[defect.name]
                    self.assertEqual(record["status"], "wrong", record)
                    self.assertNotIn("median_us", record)

        def test_installed_peers_agree_with_the_reference(self):
            peers = [entry for entry in peer.find_peers() if peer.why_missing(entry, "cpu") is None]
            self.assertIn("torch_math", [entry.name for entry in peers])
            for name in ("check_even", "check_full", "check_chunk"):
                for record in self.outcomes(name, peers).values():
                    with self.subTest(f"{name} {record['name']}"):
                        self.assertIn(record["status"], ("right", "refused"), record)

        def test_fovea_takes_every_workload_of_the_set(self):
            (ours,) = (entry for entry in peer.find_peers() if entry.name == "fovea")
            why = peer.why_missing(ours, "cpu")
            if why:
                self.skipTest(why)
            for found in workload.choose(["check"]):
                with self.subTest(found.name):
                    record = by_name(compare.compare(CpuLab(), found, [ours], rounds=1))["fovea"]
                    self.assertEqual((record["status"], record["why"]), ("right", ""))

        def test_eight_bit_answers_are_coarse_only_over_eight_bit_caches(self):
            plain, small = one(1, 64), one(1, 64, spec={"kv_dtype": "e4m3"})
            self.assertEqual([reference.verdict(error, plain, torch.bfloat16) for error in (5e-3, 5e-2)], ["right", "wrong"])
            self.assertEqual([reference.verdict(error, small, torch.bfloat16) for error in (5e-3, 5e-2, 2e-1)], ["right", "coarse", "wrong"])

        def test_an_eight_bit_cache_is_read_as_it_was_rounded(self):
            batch = Batch(one(1, 40, spec={"kv_dtype": "e4m3", "num_qo_heads": 4, "num_kv_heads": 2, "head_dim_qk": 16}), Pools("cpu", 1 << 20))
            call = Gather().prepare(batch)
            self.assertLess(reference.worst_error(batch, call.run(0), 0, "paged"), 1e-2)

        def test_the_command_runs_end_to_end(self):
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as out:
                path = pathlib.Path(folder) / "results.json"
                code = command.main(["check_even", "--device", "cpu", "--rounds", "2", "--peer", "torch_math", "--json", str(path)])
                records = json.loads(path.read_text())["points"][0]["peers"]
            self.assertEqual((code, records[0]["status"], records[0]["layout"]), (0, "right", "dense"))
            self.assertIn("torch_math (dense)", out.getvalue())
else:
    print("no PyTorch here: the harness is tested with a fake laboratory only")

if __name__ == "__main__":
    unittest.main()
