"""What only a GPU shows: lengths on the device, streams, CUDA graphs of run and of plan + run, no hidden synchronisation. FOVEA_TEST_DEVICE=cuda."""

import numpy as np
import pytest
from formula import DEVICE, Batch, tensor, torch, values_of

import fovea

if DEVICE != "cuda":
    pytest.skip("FOVEA_TEST_DEVICE is not cuda: the tests of GPUs are left out", allow_module_level=True)

LENGTHS = [(1, 1), (1, 40), (3, 16), (0, 5), (17, 33), (5, 64)]


@pytest.fixture(scope="module")
def engine():
    return fovea.Engine("cuda")


@pytest.mark.parametrize("layout", ["csr", "csr_kv_len", "table_2d", "table_rows", "ragged"])
def test_lengths_on_the_device(engine, layout):
    batch = Batch(layout, "torch", LENGTHS, q="bf16", kv="bf16", lengths_on="device")
    tables = batch.tables
    if layout == "ragged":
        tables = fovea.KvTables.ragged(tables.page_indptr, ragged_tokens=batch.cache.k.shape[0])
    attention = engine.prepare(batch.spec(), batch.limits())
    plan = attention.plan(batch.qo_indptr, tables, max_query_tokens=batch.q.shape[0])
    batch.check(*plan.run(batch.q, batch.cache, lse=True))
    torch.cuda.synchronize()
    assert engine.status() == []


def test_bad_lengths_on_the_device(engine):
    batch = Batch("table_2d", "torch", LENGTHS, q="bf16", kv="bf16", lengths_on="device")
    attention = engine.prepare(batch.spec(), batch.limits())
    batch.tables.kv_len[1] = -7
    plan = attention.plan(batch.qo_indptr, batch.tables, max_query_tokens=batch.q.shape[0])
    o = plan.run(batch.q, batch.cache)
    torch.cuda.synchronize()
    assert values_of(o)[1].max() == 0 and len(engine.status()) == 1 and engine.status() == []


def test_a_captured_run_follows_its_plan(engine):
    batches = [Batch("csr", "torch", lengths, q="bf16", kv="bf16", seed=seed) for seed, lengths in
               enumerate([[(1, 300)] * 6, [(1, 4000), (1, 2)], [(1, 100)]])]
    attention = engine.prepare(batches[0].spec(), fovea.Limits(max_requests=8, max_kv_tokens_per_request=4096))
    slots = max(b.cache.k.shape[0] for b in batches)
    k, v = (torch.zeros(slots, *batches[0].cache.k.shape[1:], dtype=torch.bfloat16, device="cuda") for _ in range(2))
    ids, q = torch.zeros(4096, dtype=torch.int32, device="cuda"), torch.zeros(8, *batches[0].q.shape[1:], dtype=torch.bfloat16, device="cuda")
    out = torch.empty_like(q)
    plan = attention.new_plan()

    def step(batch):
        for to, source in ((k, batch.cache.k), (v, batch.cache.v), (ids, batch.tables.page_indices), (q, batch.q)):
            to[: source.shape[0]].copy_(source)
        tables = fovea.KvTables.csr(batch.tables.page_indptr, ids, batch.tables.last_page_len)
        attention.plan(batch.qo_indptr, tables, into=plan)

    step(batches[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        plan.run(q, (k, v), out=out)
    for batch in batches:
        out.fill_(float("nan"))
        step(batch)
        graph.replay()
        batch.check(out[: batch.q.shape[0]])


def test_a_graph_of_plan_and_run_plans_anew(engine):
    attention = None
    pages, width, requests = 64, 16, 6
    generator = np.random.default_rng(3)
    shape = (pages, 16, 2, 64)
    k, v = (torch.from_numpy(generator.standard_normal(shape, dtype=np.float32)).to(torch.bfloat16).cuda() for _ in range(2))
    q = torch.from_numpy(generator.standard_normal((requests, 4, 64), dtype=np.float32)).to(torch.bfloat16).cuda()
    spec = fovea.AttentionSpec(4, 2, 64)
    attention = engine.prepare(spec, fovea.Limits(max_requests=requests, max_kv_tokens_per_request=width * 16))
    table = torch.zeros(requests, width, dtype=torch.int32, device="cuda")
    kv_len = torch.ones(requests, dtype=torch.int32, device="cuda")
    num = torch.tensor([requests], dtype=torch.int32, device="cuda")
    qo_indptr = torch.arange(requests + 1, dtype=torch.int32, device="cuda")
    tables = fovea.KvTables.table_2d(table, kv_len)
    out = torch.empty_like(q)
    plan = attention.new_plan()
    attention.plan(qo_indptr, tables, num_requests=num, into=plan)
    plan.run(q, (k, v), out=out)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        attention.plan(qo_indptr, tables, num_requests=num, into=plan)
        for _ in range(2):
            plan.run(q, (k, v), out=out)
    from formula import attend

    for live in (requests, 3, 5):
        lengths = generator.integers(1, width * 16, requests)
        ids = np.stack([generator.permutation(pages)[:width] for _ in range(requests)]).astype(np.int32)
        table.copy_(torch.from_numpy(ids))
        kv_len.copy_(torch.from_numpy(lengths.astype(np.int32)))
        num.fill_(live)
        out.fill_(7.0)
        graph.replay()
        o, keys, values = values_of(out), values_of(k), values_of(v)
        for r in range(live):
            expected, _ = attend(values_of(q)[r:r + 1], keys[ids[r]].reshape(-1, 2, 64)[: lengths[r]], values[ids[r]].reshape(-1, 2, 64)[: lengths[r]])
            np.testing.assert_allclose(o[r:r + 1], expected, rtol=0.02, atol=0.02)
        assert (o[live:] == 7).all()
    assert engine.status() == []


def test_the_current_stream_and_an_explicit_one(engine):
    batch = Batch("csr", "torch", LENGTHS, q="bf16", kv="bf16")
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    assert not torch.isnan(plan.run(batch.q, batch.cache)).any()  # every kernel is loaded: loading one waits for the device
    torch.isnan(batch.q).all()
    for explicit in (False, True):
        out = torch.full_like(batch.q, float("nan"))
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            if not explicit:
                plan.run(batch.q, batch.cache, out=out)
        if explicit:
            plan.run(batch.q, batch.cache, out=out, stream=stream)
        done = stream.record_event()
        assert not done.query(), "the run waited, or was too late to tell"
        assert torch.isnan(out).all(), "the run did not wait for what was before it on its stream"  # asked on the default stream, at once
        stream.synchronize()
        batch.check(out)


def test_streams_of_others(engine):
    batch = Batch("csr", "torch", LENGTHS, q="bf16", kv="bf16")
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    batch.check(plan.run(batch.q, batch.cache, stream=torch.cuda.current_stream().cuda_stream))
    with pytest.raises(TypeError, match="stream is str; it must be a torch or CuPy stream"):
        plan.run(batch.q, batch.cache, stream="main")
    cupy = pytest.importorskip("cupy")
    stream = cupy.cuda.Stream(non_blocking=True)
    out = torch.empty_like(batch.q)
    torch.cuda.synchronize()
    plan.run(batch.q, batch.cache, out=out, stream=stream)
    stream.synchronize()
    batch.check(out)


def test_cupy_arrays(engine):
    cupy = pytest.importorskip("cupy")
    batch = Batch("csr", "torch", LENGTHS, q="f16", kv="f16")
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    torch.cuda.synchronize()
    q, k, v = (cupy.from_dlpack(x) for x in (batch.q, batch.cache.k, batch.cache.v))
    out = cupy.zeros(q.shape, dtype=cupy.float16)
    cupy.cuda.Device().synchronize()
    plan.run(q, (k, v), out=out)
    cupy.cuda.Device().synchronize()
    batch.check(torch.from_dlpack(out))


def test_jax_arrays_as_inputs(engine, monkeypatch):
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = pytest.importorskip("jax")
    batch = Batch("csr", "torch", LENGTHS, q="f16", kv="f16")
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    q, k, v = (jax.numpy.asarray(x.cpu().numpy()) for x in (batch.q, batch.cache.k, batch.cache.v))
    jax.block_until_ready((q, k, v))
    out = torch.empty_like(batch.q)  # JAX's own can't be written
    plan.run(q, (k, v), out=out)
    batch.check(out)


def test_nothing_synchronises(engine):
    batch = Batch("table_2d", "torch", LENGTHS, q="bf16", kv="bf16", lengths_on="device")
    attention = engine.prepare(batch.spec(), batch.limits())
    plan = attention.new_plan()
    stream = torch.cuda.current_stream()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(400_000_000)
        attention.plan(batch.qo_indptr, batch.tables, max_query_tokens=batch.q.shape[0], into=plan)
        out = plan.run(batch.q, batch.cache)
        done = stream.record_event()
        assert not done.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    batch.check(out)


def test_wrong_devices(engine):
    batch = Batch("csr", "torch", LENGTHS, q="bf16", kv="bf16")
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    with pytest.raises(ValueError, match="run: q is on cpu"):
        plan.run(batch.q.cpu(), batch.cache)
    with pytest.raises(ValueError, match="is on cpu"):
        plan.run(batch.q, (batch.cache.k.cpu(), batch.cache.v))
    with pytest.raises(ValueError, match="q is on cuda:0"):
        host = fovea.Engine("cpu")
        attention = host.prepare(fovea.AttentionSpec(4, 2, 64), fovea.Limits())
        attention.plan([0, 1], fovea.KvTables.csr([0, 1], torch.zeros(1, dtype=torch.int32), [1])).run(batch.q, batch.cache)


def test_compile_reduce_overhead(engine):
    batch = Batch("csr", "torch", LENGTHS, q="bf16", kv="bf16")
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    torch._dynamo.reset()
    layer = torch.compile(lambda q, k, v: plan.run(q * 1.0, (k, v)) * 2.0, fullgraph=True, mode="reduce-overhead")
    for _ in range(4):
        result = layer(batch.q, batch.cache.k, batch.cache.v).clone()
    batch.check(result / 2)


def test_append_and_merge(engine):
    k = torch.zeros(8, 16, 2, 64, dtype=torch.bfloat16, device="cuda")
    v = torch.zeros_like(k)
    new = torch.randn(3, 2, 64, dtype=torch.bfloat16, device="cuda")
    engine.append_kv(new, new + 1, fovea.KvCache(k, v), slot_mapping=torch.tensor([5, -1, 40], device="cuda"))
    assert torch.equal(k.view(-1, 2, 64)[5], new[0]) and torch.equal(v.view(-1, 2, 64)[40], (new + 1)[2]) and k.view(-1, 2, 64).abs().sum(dim=(1, 2)).count_nonzero() == 2
    o, lse = torch.randn(4, 2, 64, device="cuda"), torch.randn(4, 2, device="cuda")
    out, out_lse = engine.merge_states([(o, lse), (o, lse)], out=torch.empty_like(o), lse=torch.empty_like(lse))
    torch.testing.assert_close(out, o)
    torch.testing.assert_close(out_lse, lse + np.log(2.0).astype(np.float32))
