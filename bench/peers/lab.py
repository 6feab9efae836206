"""Where peers run: PyTorch tensors on a CUDA device or, to try the harness, on the CPU.

On CUDA a decode or mixed step is timed as a graph: a chain of calls, one for each copy of K and V and at least 32, captured once; events around a replay
divided by the calls. A prompt is timed as one call with events around it, after a write of 512 MB that leaves nothing of it in the cache. A peer that can't
be captured is timed as a chain of plain calls and marked.
"""

import dataclasses
import statistics
import time
from typing import Any

import torch

from peers import reference
from peers.batch import Batch, Pools
from peers.compare import DeviceLost
from peers.pages import num_calls
from peers.peer import Call, reason

FLUSH_BYTES = 512 << 20
HOST_CALLS = 20


@dataclasses.dataclass
class Entry:
    peer: Any
    call: Call
    result: Any = None   # what the last call returned; a graph writes it again at every replay
    last_copy: int = 0
    calls: int = 1
    graph: Any = None
    facts: dict = dataclasses.field(default_factory=dict)


class Lab:
    """What both devices share. One workload is open at a time."""

    device = ""

    def __init__(self, pools):
        self.pools = pools

    def open(self, workload):
        torch.manual_seed(0)
        return Batch(workload, self.pools, single=workload.kind == "prefill")

    def prepare(self, peer, bench):
        bench.o.fill_(float("nan"))
        entry = Entry(peer=peer, call=peer.prepare(bench))
        entry.result = entry.call.run(0)
        return entry

    def error(self, entry, bench):
        return reference.worst_error(bench, entry.call.output(entry.result), entry.last_copy, entry.call.layout)

    def verdict(self, error, bench):
        return reference.verdict(error, bench.workload, bench.o.dtype)

    def facts(self, entry, bench):
        return dict(entry.facts, calls=entry.calls, copies=bench.copies)

    def close(self, bench):
        bench.answers.clear()


class CpuLab(Lab):
    """One call after another by the host's clock. For trying the harness: CPU times of GPU libraries say nothing."""

    device = "cpu"

    def __init__(self):
        super().__init__(Pools("cpu", 64 << 20))

    def settle(self):
        pass

    def chain(self, entry, bench):
        entry.last_copy = bench.copies - 1
        bench.o.fill_(float("nan"))
        entry.result = entry.call.run(entry.last_copy)
        return "calls"

    def chain_error(self, entry, bench):
        return self.error(entry, bench)

    def sample(self, entry, bench):
        begin = time.perf_counter()
        for copy in range(bench.copies):
            entry.call.run(copy)
        return (time.perf_counter() - begin) * 1e6 / bench.copies

    def machine(self):
        return {"device": "cpu", "torch": torch.__version__, "threads": torch.get_num_threads()}

    def yardsticks(self):
        return {}


class CudaLab(Lab):
    device = "cuda"

    def __init__(self):
        free_bytes, _ = torch.cuda.mem_get_info()
        super().__init__(Pools("cuda", min(10 << 30, free_bytes // 3)))
        self.stream = torch.cuda.Stream()
        self.flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")

    def settle(self):
        try:
            torch.cuda.synchronize()
        except Exception as error:
            raise DeviceLost(reason(error)) from None

    def events(self, body):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        body()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) * 1e3

    def chain(self, entry, bench):
        run = entry.call.run
        entry.facts["host_us"] = self.host_time(run, bench)
        entry.last_copy = bench.copies - 1
        if bench.workload.kind == "prefill":
            self.poison(entry)
            entry.result = run(0)
            return "calls after a flush"
        estimate = max(1.0, bench.workload.kv_bytes / 4e6)  # at 4 TB/s; how many calls, not how long
        entry.calls = num_calls(bench.copies, estimate + 8)
        try:
            self.capture(entry)
        except Exception as error:
            entry.graph, entry.facts["no_graph"] = None, reason(error)
            self.settle()
            self.run_all(entry, bench)
            return "calls"
        self.poison(entry)
        entry.graph.replay()
        return "graph"

    def host_time(self, run, bench):
        """Median time that a call keeps the host."""
        times = []
        for call in range(HOST_CALLS):
            begin = time.perf_counter()
            run(call % bench.copies)
            times.append((time.perf_counter() - begin) * 1e6)
        self.settle()
        return statistics.median(times)

    def capture(self, entry):
        graph, copies = torch.cuda.CUDAGraph(), entry.last_copy + 1
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            entry.call.run(0)
        self.settle()
        with torch.cuda.graph(graph, stream=self.stream):
            for call in range(entry.calls):
                entry.result = entry.call.run(call % copies)
        entry.graph = graph

    def poison(self, entry):
        if torch.is_floating_point(entry.result):
            entry.result.fill_(float("nan"))

    def run_all(self, entry, bench):
        for call in range(entry.calls):
            entry.result = entry.call.run(call % bench.copies)

    def chain_error(self, entry, bench):
        self.settle()
        return self.error(entry, bench)

    def sample(self, entry, bench):
        if bench.workload.kind == "prefill":
            self.flush.zero_()
            return self.events(lambda: entry.call.run(0))
        if entry.graph is None:
            return self.events(lambda: self.run_all(entry, bench)) / entry.calls
        return self.events(entry.graph.replay) / entry.calls

    def close(self, bench):
        super().close(bench)
        self.settle()
        torch.cuda.empty_cache()

    def machine(self):
        properties = torch.cuda.get_device_properties(0)
        return {"device": "cuda", "gpu": properties.name, "driver": driver_version(), "multiprocessors": properties.multi_processor_count,
                "torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}

    def yardsticks(self):
        """What the machine gives to plain code: reading 1 GiB, and a product of 8192 x 8192 matrices, random numbers in both."""
        numbers = self.pools.take("k", torch.bfloat16, 1 << 29)[:1 << 29].view(torch.float32)
        reading = statistics.median(self.events(lambda: numbers.sum()) for _ in range(7))
        side = 8192
        left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        product = statistics.median(self.events(lambda: left @ right) for _ in range(7))
        return {"read_tb_per_s": (1 << 30) / reading / 1e6, "matmul_tflop_per_s": 2 * side**3 / product / 1e6}


def driver_version():
    import subprocess

    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
