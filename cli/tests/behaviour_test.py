#!/usr/bin/env python3
"""What scripts rely on: JSON keys, nothing beside the JSON on standard output, exit codes, Ctrl-C, files that are whole or not there.

    cli/tests/behaviour_test.py --fovea build/fovea [--fake-nvrtc build/backends/cuda/fake_nvrtc]
"""

import argparse
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

FOVEA = None
FAKE_NVRTC = None  # a folder: compiles anything to nothing, in no time
DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "json.md"


def run(*arguments, **options):
    return subprocess.run([FOVEA, *arguments], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, **options)


def documented_keys(command):
    """Keys in the table under `## fovea <command>` of docs/json.md, with those of every command."""
    sections = re.split(r"^## ", DOCUMENT.read_text(), flags=re.M)
    wanted = [s for s in sections if s.startswith(("Every command\n", f"fovea {command}\n"))]
    assert len(wanted) == 2, f"docs/json.md has no section for {command}"
    return {key for section in wanted for key in re.findall(r"^\| `([^`]+)`", section, flags=re.M)}


def keys_of(value, path=""):
    """Dotted keys of a JSON value; list elements share `[]`."""
    if isinstance(value, dict):
        found = set()
        for key, inner in value.items():
            name = f"{path}.{key}" if path else key
            found |= {name} | keys_of(inner, name)
        return found
    if isinstance(value, list):
        return set().union(*(keys_of(inner, f"{path}[]") for inner in value)) if value else set()
    return set()


class WithKeys(unittest.TestCase):
    def check_keys(self, command, *arguments, code=0, document=None, **options):
        done = run(*command.split(), *arguments, "--json", "-", **options)
        self.assertEqual(done.returncode, code, done.stderr)
        result = json.loads(done.stdout)  # nothing else is on standard output
        self.assertEqual(done.stderr, "")
        self.assertEqual(result["command"], command)
        known = documented_keys(document or command)
        self.assertEqual(keys_of(result) - known, set(), "keys that docs/json.md does not name")
        return result, known


class Json(WithKeys):
    def test_check(self):
        result, _ = self.check_keys("check", "--backend", "reference", "--cases", "5")
        self.assertEqual((result["cases"], result["failed"]), (5, 0))
        self.assertIsInstance(result["worst"], float)

    def test_check_is_the_same_each_time(self):
        self.assertEqual(*(run("check", "--backend", "reference", "--cases", "5", "--json", "-").stdout for _ in range(2)))

    def test_plan(self):
        result, known = self.check_keys("plan", "zipf_b64", "--workers", "4")
        self.assertEqual(known - keys_of(result), {"workloads", "workloads[].name", "workloads[].about"})
        self.assertEqual(result["requests"], 64)
        names = {w["name"] for w in self.check_keys("plan", "--list")[0]["workloads"]}
        folder = DOCUMENT.parents[1] / "workloads"
        self.assertEqual(names, {path.stem for path in folder.glob("*.json")})

    def test_replay(self):
        trace = str(DOCUMENT.parents[1] / "traces" / "chat.jsonl")
        small = ["--model", "tiny", "--shrink", "16", "--requests", "60", "--kv-tokens", "3000", "--check", "4"]
        result, known = self.check_keys("replay", trace, *small)
        self.assertEqual({key for key in known if not key.startswith("compiled[]")}, keys_of(result))  # all is built in
        self.assertEqual((result["requests"], result["checked_steps"], result["mismatched_steps"]), (60, 4, 0))
        self.assertEqual((result["interrupted"], result["compiles_after_prepare"], result["compiled"]), (False, 0, []))
        self.assertEqual(result["steps"], result["planned_steps"])
        self.assertEqual(sum(result["timeline"]["steps"]), result["steps"])
        self.assertEqual(sum(result["timeline"]["decode_tokens"]) + sum(result["timeline"]["prefill_tokens"]), result["computed_tokens"])
        self.assertLess(abs(sum(result["timeline"]["step_ms"]) / 1000 - result["seconds"]["steps"]), 1e-6)
        again = json.loads(run("replay", trace, *small, "--threads", "1", "--json", "-").stdout)
        self.assertEqual(again["output_digest"], result["output_digest"])
        other = json.loads(run("replay", trace, *small, "--seed", "2", "--json", "-").stdout)
        self.assertNotEqual(other["output_digest"], result["output_digest"])

    def test_replay_on_the_reference(self):
        trace = str(DOCUMENT.parents[1] / "traces" / "chat.jsonl")
        result, _ = self.check_keys("replay", trace, "--model", "tiny", "--shrink", "128", "--requests", "12", "--device", "reference", "--check", "3")
        self.assertEqual((result["device"], result["requests"], result["mismatched_steps"]), ("reference", 12, 0))
        self.assertEqual(result["ceilings"], {"read_gb_per_s": 0, "fma_gflop_per_s": 0, "fma": ""})

    def test_replay_skips_bad_lines_when_asked(self):
        trace = str(pathlib.Path(__file__).parent / "inputs" / "trace_bad.jsonl")
        result, _ = self.check_keys("replay", trace, "--model", "tiny", "--shrink", "32", "--skip-bad")
        self.assertEqual((result["requests"], result["trace"]["skipped_lines"]), (4, 2))
        self.assertIn("trace_bad.jsonl:3: ", result["trace"]["first_skipped"])

    def test_explain(self):
        result, known = self.check_keys("explain", "decode_b64_kv4k")
        of_list, _ = self.check_keys("explain", "--variants")
        drawn, _ = self.check_keys("explain", "--variant", "causal", "--picture", "-")
        self.assertEqual(known, keys_of(result) | keys_of(of_list) | keys_of(drawn))
        self.assertEqual(drawn["tiles"], {"empty": 15, "mixed": 6, "full": 15})
        # Causal decoding: 64 requests on 8 kv heads, every tile of 64 tokens of 4,096 is seen whole.
        self.assertEqual(result["tiles"], {"empty": 0, "mixed": 0, "full": 64 * 8 * 64})

    def test_explain_lists_variants(self):
        variants = {v["name"]: v for v in self.check_keys("explain", "--variants")[0]["variants"]}
        for path in (DOCUMENT.parents[1] / "variants").glob("*.h"):
            self.assertIn(path.stem, variants)
        for exact in ["full", "causal", "prefix_lm", "chunked_local", "soft_cap", "causal+soft_cap"]:
            self.assertEqual(variants[exact]["interval"], "exact")
        self.assertEqual(variants["document"], {"name": "document", "masks": ["document_ids", "document_indptr"], "params": [], "interval": "sound"})

    def test_explain_counts_tiles(self):
        # One row tile of 16 tokens x 6 heads at the end of 1,024 tokens; a window of 100 leaves it 2 of 16 tiles.
        batch = ["--requests", "1", "--qo-len", "16", "--kv-len", "1024", "--qo-heads", "6", "--kv-heads", "1"]
        result, _ = self.check_keys("explain", "decode_b64_kv4k", *batch, "--variant", "sliding_window", "--mask", "window_left=100")
        self.assertEqual(result["tiles"], {"empty": 14, "mixed": 2, "full": 0})
        result, _ = self.check_keys("explain", "decode_b64_kv4k", *batch, "--variant", "sliding_window")
        self.assertIsNone(result["tiles"])

    def test_devices(self):
        result, known = self.check_keys("devices")
        self.assertEqual(known, keys_of(result))

    def test_bench_decode(self):
        result, known = self.check_keys("bench decode", "--kv-mib", "1", "--pairs", "2")
        self.assertEqual(known, keys_of(result))
        self.assertEqual([p["workload"].rsplit("_", 1)[1] for p in result["points"]], ["g1", "g4", "g8", "g16"])
        for point in result["points"]:
            self.assertLessEqual(point["p10_us"], point["median_us"])
            self.assertLessEqual(point["median_us"], point["p90_us"])
            self.assertEqual(point["against"].split("_")[0], "read" if point["group"] <= 8 else "fma")
            self.assertGreater(point["ratio"], 0)

    def test_bench_prefill(self):
        result, known = self.check_keys("bench prefill", "--workload", "inputs_small.json", "--pairs", "2",)
        self.assertEqual(known, keys_of(result))

    def test_variant_files(self):
        text = """struct Stripes : VariantBase {
          struct Mask {
            int32_t width = 8;
            FOVEA_FN bool keep(const Position<>& at) const { return at.kv_pos / width % 2 == at.q_pos / width % 2; }
            FOVEA_FN constexpr KvRange range() const { return {}; }
            FOVEA_FIELDS(Mask, FOVEA_OPTIONAL_AT_LEAST(width, 1))
          };
          Mask m;
        };"""
        with tempfile.TemporaryDirectory() as folder:
            path, narrow, broken = (pathlib.Path(folder) / name for name in ("stripes.h", "narrow.h", "broken.h"))
            path.write_text(text)
            narrow.write_text(text.replace("Stripes", "Narrow").replace("return {}", "return {.left = 20}"))
            broken.write_text(text.replace("Stripes", "Broken").replace("at.kv_pos", "at.kv_poss"))
            rule = ["--variant-file", str(path), "--variant", "causal+stripes", "--mask", "width=64"]
            batch = ["--requests", "1", "--qo-len", "64", "--kv-len", "512", "--qo-heads", "1", "--kv-heads", "1"]
            result, _ = self.check_keys("explain", *batch, *rule)
            self.assertIn("causal+stripes", result["spec"])
            drawn, _ = self.check_keys("explain", *batch, *rule, "--picture", "-")
            self.assertEqual(drawn["title"], "causal+stripes, width=64")
            self.assertEqual(self.check_keys("check", *rule, "--cases", "12")[0]["failed"], 0)
            failed, _ = self.check_keys("check", "--variant-file", str(narrow), "--cases", "30", "--dtype", "f32", code=1)
            self.assertGreater(failed["failed"], 0, "a range that leaves out keys is found")
            self.assertIn(f"--variant-file {narrow}", failed["failures"][0]["reproduce"])
            done = run("check", "--variant-file", str(broken))
            self.assertIn(f"{broken}(4): error: ", done.stderr)
            done = run("explain", "--variant-file", str(path), "--variant", "causal")
            self.assertEqual((done.returncode, done.stderr), (2, "fovea: --variant-file: 'stripes' is no part of --variant causal; write "
                                                                 "causal+stripes, or wherever it belongs\n"))
            self.assertEqual(run("bench", "decode", *rule, "--kv-mib", "1", "--pairs", "1").returncode, 0)

    def test_bench_variants(self):
        result, known = self.check_keys("bench variants", "--pairs", "1", "--only", "window_decode", "--only", "own_prefill")
        self.assertEqual(known, keys_of(result))
        self.assertEqual([(p["workload"], p["bar"]) for p in result["points"]], [("window_decode", 1.3), ("own_prefill", 1.03)])
        self.assertGreater(result["compile"]["cpu_seconds"], 0)

    def test_bench_plan(self):
        result, known = self.check_keys("bench plan", "--rounds", "1", "--workers", "16")
        self.assertEqual(known, keys_of(result))
        self.assertEqual({p["allocations"] for p in result["points"]}, {0})
        self.assertTrue({(256, 100000), (4096, 100000), (256, 1000000)} <= {(p["requests"], p["pages"]) for p in result["points"]})


class GpuCompiles(WithKeys):
    """compile, cache and bench jit, with an NVRTC that does nothing: what is kept where, not what is compiled."""

    SPEC = ["--arch", "sm_90a,sm_80", "--spec", "tiny", "--kv-dtype", "e5m2"]  # which no library ships

    def setUp(self):
        if FAKE_NVRTC is None:
            self.skipTest("no --fake-nvrtc: a build without the CUDA backend or without tests")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.cache = folder.name
        self.options = {"env": {**os.environ, "FOVEA_CACHE_DIR": self.cache, "FOVEA_NVRTC_PATH": FAKE_NVRTC, "FOVEA_LOG": "0"}}

    def entries(self):
        return self.check_keys("cache list", document="cache", **self.options)[0]["entries"]

    def test_compile_fills_the_cache_once(self):
        first, known = self.check_keys("compile", *self.SPEC, **self.options)
        self.assertEqual(known, keys_of(first))
        self.assertEqual(first["cache"], self.cache)
        new = [kernel for kernel in first["kernels"] if kernel["origin"] == "compiled"]
        self.assertGreaterEqual(len(new), 4)
        self.assertEqual({kernel["origin"] for kernel in first["kernels"]} - {"compiled", "shipped"}, set())
        self.assertEqual({kernel["arch"] for kernel in new}, {"sm_80", "sm_90a"})
        for kernel in new:
            self.assertTrue(pathlib.Path(kernel["path"]).is_file(), kernel)
            self.assertEqual((kernel["spec"], kernel["registers"], kernel["compiler"]), ("tiny", 32, "NVRTC 13.0"))
        self.assertEqual(len(self.entries()), len(new))
        again, _ = self.check_keys("compile", *self.SPEC, **self.options)
        self.assertEqual([kernel["path"] for kernel in again["kernels"]], [kernel["path"] for kernel in first["kernels"]])
        self.assertNotIn("compiled", {kernel["origin"] for kernel in again["kernels"]})
        without = {"env": {**self.options["env"], "FOVEA_NVRTC_PATH": "/nowhere"}}  # as on a machine that got the folder
        self.assertEqual(run("compile", *self.SPEC, **without).returncode, 0)

    def test_cache_is_listed_pruned_and_cleared(self):
        self.assertEqual(self.entries(), [])
        self.check_keys("compile", *self.SPEC, **self.options)
        listed = self.entries()
        self.assertEqual(sum(len(list(pathlib.Path(self.cache, entry["name"]).iterdir())) > 0 for entry in listed), len(listed))
        kept, _ = self.check_keys("cache prune", "--to-mb", "1", document="cache", **self.options)
        self.assertEqual((kept["removed"], kept["bytes"]), ([], sum(entry["bytes"] for entry in listed)))
        pruned, _ = self.check_keys("cache prune", "--to-mb", "0", document="cache", **self.options)
        self.assertEqual({entry["name"] for entry in pruned["removed"]}, {entry["name"] for entry in listed})
        self.assertEqual((pruned["bytes"], self.entries()), (0, []))
        self.check_keys("compile", *self.SPEC, **self.options)
        cleared, _ = self.check_keys("cache clear", document="cache", **self.options)
        self.assertEqual(len(cleared["removed"]), len(listed))
        self.assertEqual(self.entries(), [])

    def test_bench_jit(self):
        # A text would be asked by the host what it is, which a cubin of nothing can't say.
        result, known = self.check_keys("bench jit", "--variant", "causal", "--variant", "alibi", "--head-dim", "64", "--arch", "sm_80", **self.options)
        self.assertEqual({key for key in known if not key.startswith("users.")}, keys_of(result))
        self.assertEqual((result["arch"], result["compiler"], result["users"]), ("sm_80", "NVRTC 13.0", None))
        self.assertEqual(result["built_in"]["kernels"], len(result["points"]))
        self.assertEqual({point["users"] for point in result["points"]}, {False})
        self.assertTrue(all(point["workload"].endswith("-d64") for point in result["points"]))
        self.assertEqual(self.entries(), [], "bench jit fills no cache")

    def test_refusals(self):
        for arguments, words in (
                (["compile", "--arch", "sm_75", "--spec", "tiny"], "architecture 'sm_75' is not known"),
                (["compile", "--spec", "llama-9"], "--spec: 'llama-9' is neither a model nor a workload"),
                (["bench", "jit", "--arch", "sm_75"], "architecture 'sm_75' is not known")):
            done = run(*arguments, **self.options)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(words, done.stderr)
        nowhere = run("compile", "--spec", "tiny", env={**self.options["env"], "FOVEA_CACHE_DIR": ""})
        self.assertEqual((nowhere.returncode, "there is no cache to fill" in nowhere.stderr), (2, True))
        nothing = run("compile", *self.SPEC, env={**self.options["env"], "FOVEA_NVRTC_PATH": "/nowhere"})
        self.assertEqual((nothing.returncode, "no usable NVRTC is here" in nothing.stderr), (2, True))


class Files(unittest.TestCase):
    def test_json_file_is_written_beside_the_text(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "out.json"
            done = run("devices", "--json", str(path))
            self.assertEqual(done.returncode, 0)
            self.assertIn("features", done.stdout)
            self.assertEqual(json.loads(path.read_text())["command"], "devices")
            self.assertEqual(os.listdir(folder), ["out.json"])

    def test_bad_input_leaves_an_old_file_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "out.json"
            path.write_text("old")
            done = run("plan", "--variant", "no_such", "--json", str(path))
            self.assertEqual(done.returncode, 2)
            self.assertEqual((path.read_text(), os.listdir(folder)), ("old", ["out.json"]))

    def test_unwritable_json_is_refused_before_any_work(self):
        begin = time.monotonic()
        done = run("check", "--backend", "reference", "--cases", "100000000", "--json", "/no/such/folder/x.json")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("can't be written", done.stderr)
        self.assertLess(time.monotonic() - begin, 60)

    def test_full_disk_is_noticed(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        self.assertEqual(run("devices", "--json", "/dev/full").returncode, 2)


class Refusals(unittest.TestCase):
    """Texts that depend on the machine; the others are in errors.transcript."""

    def test_unknown_instruction_set(self):
        done = run("check", "--isa", "sse9")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("sse9", done.stderr)
        self.assertIn("avx2", done.stderr)

    def test_split_no_kernel_can_do(self):
        done = run("plan", "--policy", "fixed_split", "--split", "100")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("fixed_split = 100", done.stderr)

    def test_more_cache_than_memory(self):
        trace = str(pathlib.Path(__file__).parent / "inputs" / "trace_small.jsonl")
        done = run("replay", trace, "--kv-tokens", "1000000000", "--layers", "32")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^fovea: --kv-tokens: a cache of 1000000000 tokens and 32 layers takes [\d.]+ TiB, but .* are free; give fewer")

    def test_more_kv_than_memory(self):
        done = run("bench", "decode", "--kv-mib", "1000000")
        self.assertEqual((done.returncode, "workload" in done.stderr), (2, True), done.stderr)


class CtrlC(unittest.TestCase):
    def test_ends_cleanly(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [FOVEA, "check", "--backend", "reference", "--cases", "100000000", "--json", f"{folder}/out.json"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            self.assertEqual((process.returncode, err), (130, "fovea: interrupted\n"), out)
            self.assertEqual(os.listdir(folder), [])


    def test_replay_keeps_what_it_has(self):
        trace = str(DOCUMENT.parents[1] / "traces" / "chat.jsonl")
        with tempfile.TemporaryDirectory() as folder:
            command = [FOVEA, "replay", trace, "--check", "100000000", "--kv-tokens", "32768", "--json", f"{folder}/out.json"]  # minutes
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(2):  # the head is printed before the first step
                process.stdout.readline()
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
            self.assertEqual(process.returncode, 130, out + err)
            self.assertRegex(err, r"^fovea: interrupted after \d+ of \d+ steps; the results are of those\n$")
            result = json.loads(pathlib.Path(folder, "out.json").read_text())
            self.assertTrue(result["interrupted"])
            self.assertLess(result["steps"], result["planned_steps"])
            self.assertEqual(os.listdir(folder), ["out.json"])


class Terminal(unittest.TestCase):
    def run_on_terminal(self, *arguments):
        """Standard error is a terminal; returns what it showed."""
        leader, follower = pty.openpty()
        done = subprocess.run([FOVEA, *arguments], stdout=subprocess.PIPE, stderr=follower, timeout=300, stdin=subprocess.DEVNULL)
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        os.close(leader)
        return done, shown.decode()

    def test_progress_bar_is_drawn_and_erased(self):
        _, shown = self.run_on_terminal("check", "--cases", "200", "--json", "-")  # a second: the bar is for work of over a tenth of one
        self.assertIn("check ▕", shown)
        self.assertTrue(shown.endswith("\r\x1b[K"))

    def test_no_bar_without_a_terminal(self):
        self.assertEqual(run("bench", "plan", "--rounds", "3", "--workers", "16").stderr, "")

    def test_colours_on_request_alone(self):
        self.assertNotIn("\x1b", run("plan").stdout)
        self.assertIn("\x1b[48;5;", run("plan", "--color", "always").stdout)


def main():
    global FOVEA, FAKE_NVRTC
    parser = argparse.ArgumentParser()
    parser.add_argument("--fovea", required=True)
    parser.add_argument("--fake-nvrtc")
    arguments, rest = parser.parse_known_args()
    FOVEA = str(pathlib.Path(arguments.fovea).resolve())
    FAKE_NVRTC = arguments.fake_nvrtc and str(pathlib.Path(arguments.fake_nvrtc).resolve())
    os.chdir(pathlib.Path(__file__).resolve().parent / "inputs")
    unittest.main(argv=[sys.argv[0], *rest])


main()
