#!/usr/bin/env python3
"""What calls from Python cost the host, on this machine: prints, asserts nothing.

    python python/tests/host_cost.py [cpu|cuda]     (cuda: numbers of the host alone; the GPU is given time to catch up)
"""

import statistics
import sys
import time

begin = time.perf_counter()
import fovea  # noqa: E402

print(f"import fovea                              {1e3 * (time.perf_counter() - begin):8.1f} ms")
device = sys.argv[1] if len(sys.argv) > 1 else "cuda"
begin = time.perf_counter()
import torch  # noqa: E402

print(f"import torch                              {1e3 * (time.perf_counter() - begin):8.1f} ms")
if device == "cuda":
    torch.zeros(1, device="cuda")
begin = time.perf_counter()
engine = fovea.Engine(device)
print(f"first Engine (loads tvm-ffi, the library) {1e3 * (time.perf_counter() - begin):8.1f} ms   {engine.describe()}")


def wait():
    if device == "cuda":
        torch.cuda.synchronize()


def cost(call, rounds=300, chain=16):
    """Microseconds of one call: alone, with nothing in the queue before it (median, least); and in a chain of calls."""
    alone, chained = [], []
    call()
    wait()
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    for _ in range(rounds):
        wait()
        begin = time.perf_counter()
        call()
        alone.append((time.perf_counter() - begin) * 1e6)
    for _ in range(rounds // chain):
        wait()
        begin = time.perf_counter()
        for _ in range(chain):
            call()
        chained.append((time.perf_counter() - begin) / chain * 1e6)
    wait()
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("default")
    return f"{statistics.median(alone):7.2f} us alone (least {min(alone):.2f}), {statistics.median(chained):.2f} in a chain of {chain}"


def host(values):
    return torch.tensor(values, dtype=torch.int32)


HEADS, KV_HEADS, DIM, PAGE = 32, 8, 128, 16


def batch(requests, kv_len, lengths_on):
    pages = -(-kv_len // PAGE)
    on = (lambda x: host(x).to(device)) if lengths_on == "device" else host
    ids = torch.arange(requests * pages, dtype=torch.int32).reshape(requests, pages).to(device)
    return on(list(range(requests + 1))), fovea.KvTables.table_2d(ids, on([kv_len] * requests)), fovea.KvTables.csr(
        on(list(range(0, requests * pages + 1, pages))), ids.reshape(-1), on([PAGE] * requests))


def tensors(requests, kv_len):
    shape = (requests * -(-kv_len // PAGE), PAGE, KV_HEADS, DIM)
    k, v = (torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(2))
    q = torch.randn(requests, HEADS, DIM, dtype=torch.bfloat16, device=device)
    return q, k, v, torch.empty_like(q)


begin = time.perf_counter()
attention = engine.prepare(fovea.AttentionSpec(HEADS, KV_HEADS, DIM), fovea.Limits(max_requests=256, max_kv_tokens_per_request=65536))
plan = attention.new_plan()
qo_indptr, tables, csr = batch(4, 512, "host")
q, k, v, out = tensors(4, 512)
attention.plan(qo_indptr, tables, into=plan)
plan.run(q, (k, v), out=out)
wait()
print(f"first prepare, plan, run                  {1e3 * (time.perf_counter() - begin):8.1f} ms   {[c for c in engine.compiled() if not c['cached']]}")

from fovea import _library as library  # noqa: E402

with torch.no_grad():
    for name, kv_len, requests in (("nothing cut, one launch", 64, 33), ("cut, two launches", 4096, 1)):
        qo_indptr, tables, csr = batch(requests, kv_len, "host")
        q, k, v, out = tensors(requests, kv_len)
        cache = fovea.KvCache(k, v)
        lse = torch.empty(requests, HEADS, device=device)
        attention.plan(qo_indptr, tables, into=plan)
        print(f"run, {name}: {plan.view().splitlines()[0]}")
        print(f"  the library's function                    {cost(lambda: library.run(plan._object, None, q, out, None, None, 1.0, 0, 0, 1, k, v, 0, None, None, -2))}")
        print(f"  plan.run(q, KvCache, out=)                {cost(lambda: plan.run(q, cache, out=out))}")
        print(f"  plan.run(q, (k, v), out=)                 {cost(lambda: plan.run(q, (k, v), out=out))}")
        print(f"  plan.run(q, KvCache, out=, lse=, sm_scale=)  {cost(lambda: plan.run(q, cache, out=out, lse=lse, sm_scale=0.1))}")
        print(f"  torch.ops.fovea.run                       {cost(lambda: torch.ops.fovea.run.default(plan.name, q, k, v, out, None, 0.1))}")
    print(f"  for comparison, torch.mul(out=)           {cost(lambda: torch.mul(q, q, out=out))}")
    print(f"  a call of the library that does nothing   {cost(lambda: plan.generation)}")
    for where in ("host", "device") if device == "cuda" else ("host",):
        qo_indptr, tables, csr = batch(256, 1024, where)
        print(f"plan of 256 requests, lengths on the {where}")
        print(f"  2-D table                                 {cost(lambda: attention.plan(qo_indptr, tables, into=plan))}")
        print(f"  CSR                                       {cost(lambda: attention.plan(qo_indptr, csr, into=plan))}")
        print(f"  2-D table, KvTables made anew             {cost(lambda: attention.plan(qo_indptr, fovea.KvTables.table_2d(tables.page_table, tables.kv_len), into=plan))}")
