#!/usr/bin/env python3
"""The page of a replay: whole, loads nothing, says what went wrong; and what bad files are told. Without matplotlib the plots are left out.

    python/tests/report_test.py [--replay FILE.json]     with a file, its page is made too
"""

import argparse
import html.parser
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

PYTHON = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PYTHON))

from fovea.report import ReportError, make_page, read_replay  # noqa: E402

try:
    import matplotlib  # noqa: F401
except ImportError:
    matplotlib = None

REPLAY = None
SPREAD = {"p50": 1.0, "p90": 2.0, "p99": 3.0}


def a_replay(steps=5, **changes):
    columns = ["begin_s", "steps", "step_ms", "plan_us", "run_ms", "requests", "waiting", "prefill_tokens", "decode_tokens", "hit_tokens", "preempted",
               "pages_used", "pages_idle", "gflop", "kv_mb"]
    replay = {
        "fovea": "0.0.0", "command": "replay", "device": "cpu", "engine": "cpu <test>", "cpu": "a & b", "cores": 2, "interrupted": False,
        "trace": {"name": "<t>", "format": "mooncake", "requests": 3, "skipped_lines": 0, "first_skipped": ""},
        "options": {"model": "tiny", "layers": 1, "layers_of_model": 2, "shrink": 1, "token_budget": 64, "max_requests": 8, "page_size": 16, "pages": 10, "kv_dtype": "bf16"},
        "ceilings": {"read_gb_per_s": 10.0, "fma_gflop_per_s": 100.0, "fma": "fma_f32_avx2"},
        "curves": {key: [1.0, 2.0, 3.0] for key in ("first_token_ms", "inter_token_ms", "step_ms")},
        "timeline": {column: [1] * steps for column in columns}, "output_digest": "00ff", "first_mismatch": "", "compiled": [],
        "seconds": {key: 1.0 for key in ("all", "steps", "inputs", "digest", "check")},
    }
    replay.update({key: SPREAD for key in ("step_ms", "plan_us", "append_us", "run_us", "first_token_ms", "inter_token_ms")})
    replay.update({key: 1 for key in ("requests", "rejected", "steps", "planned_steps", "prompt_tokens", "output_tokens", "computed_tokens", "recomputed_tokens",
                                      "cache_hit_tokens", "mixed_steps", "chunked_prefills", "preemptions", "evictions", "kv_cache_bytes", "workspace_bytes",
                                      "checked_steps", "checked_pairs", "compiles_after_prepare")})
    replay.update({"cache_hit_rate": 0.5, "plan_share": 0.01, "tokens_per_s": 5.0, "decode_gb_per_s": 1.0, "prefill_gflop_per_s": 1.0, "gb_per_s": 1.0,
                   "gflop_per_s": 1.0, "prepare_ms": 0.1, "mismatched_steps": 0, "worst_error": 0.5, "rejected": 0})
    replay.update(changes)
    return replay


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.loads, self.open, self.plots = [], [], 0

    def handle_starttag(self, tag, attributes):
        self.plots += tag == "svg"
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "data", "action") and not value.startswith("#"):
                self.loads.append(value)
        if tag in ("script", "link", "iframe", "img"):
            self.loads.append(tag)


class Page(unittest.TestCase):
    def check(self, page, plots=5):
        tags = Tags()
        tags.feed(page)
        self.assertEqual(tags.loads, [], "the page must not load anything")
        self.assertEqual(re.findall(r"https?://|@import|url\(\s*['\"]?[^#'\")]", re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)), [])
        if matplotlib:
            self.assertEqual(tags.plots, plots)

    def make(self, replay):
        if not matplotlib:
            self.skipTest("matplotlib is not installed here")
        page = make_page(replay)
        self.check(page)
        return page

    def test_is_whole_and_escapes_what_it_is_given(self):
        page = self.make(a_replay())
        self.assertTrue("&lt;t&gt; on tiny" in page)
        self.assertFalse("<t>" in page)
        self.assertTrue("00ff" in page)

    def test_is_the_same_each_time(self):
        self.assertTrue(self.make(a_replay()) == self.make(a_replay()))

    def test_says_what_went_wrong(self):
        page = self.make(a_replay(interrupted=True, mismatched_steps=1, first_mismatch="step 3 is off", rejected=2, worst_error=None))
        for words in ("Interrupted after 1 of 1 steps", "step 3 is off", "2 requests are longer than the whole cache", "not finite"):
            self.assertTrue(words in page, words)

    def test_edges(self):
        self.make(a_replay(steps=1))
        self.make(a_replay(ceilings={"read_gb_per_s": 0, "fma_gflop_per_s": 0, "fma": ""}, curves={"first_token_ms": [], "inter_token_ms": [], "step_ms": []}))
        timeline = a_replay()["timeline"]
        self.make(a_replay(timeline={**timeline, "gflop": [0] * 5, "kv_mb": [0] * 5, "run_ms": [0] * 5, "plan_us": [0] * 5, "step_ms": [0] * 5}))

    def test_of_a_real_replay(self):
        if REPLAY is None:
            self.skipTest("no --replay FILE")
        self.make(read_replay(REPLAY))


class BadFiles(unittest.TestCase):
    def message_of(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "f.json"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            with self.assertRaises(ReportError) as caught:
                read_replay(path)
            return str(caught.exception).removeprefix(f"{path}")

    def test_messages(self):
        wanted = "; give a file that fovea replay --json wrote"
        self.assertEqual(self.message_of("{\n\"a\": "), f":2: it is no JSON (Expecting value){wanted}")
        self.assertEqual(self.message_of(b"\xff\xfe"), f": it can't be read (no UTF-8 text){wanted}")
        self.assertEqual(self.message_of("[]"), f": it is not of a replay (no object){wanted}")
        self.assertEqual(self.message_of('{"command": "check"}'), f": it is not of a replay (check){wanted}")
        replay = a_replay()
        del replay["timeline"]
        self.assertEqual(self.message_of(json.dumps(replay)), ": keys are missing (timeline); was it written by another version?")
        self.assertEqual(self.message_of(json.dumps(a_replay(steps=0))), ": there are no steps in it; the replay was interrupted before the first")

    def test_command(self):
        done = subprocess.run([sys.executable, "-m", "fovea.report", "/no/such.json"], cwd=PYTHON, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertEqual(done.stderr, "fovea.report: /no/such.json: it can't be read (No such file or directory); give a file that fovea replay --json wrote\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--replay", type=pathlib.Path)
    arguments, rest = parser.parse_known_args()
    REPLAY = arguments.replay
    unittest.main(argv=[sys.argv[0], *rest])
