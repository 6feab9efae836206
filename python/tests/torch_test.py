"""What is PyTorch's alone: torch.compile, opcheck, tensors that are refused, streams and CUDA graphs."""

import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="no torch: its tests are left out")

from formula import DEVICE, Batch, values_of  # noqa: E402

import fovea  # noqa: E402

LENGTHS = [(1, 1), (1, 40), (3, 16), (0, 5), (17, 33), (5, 64)]


@pytest.fixture(scope="module")
def engine():
    return fovea.Engine(DEVICE)


def planned(engine, batch, variant="causal", mask=None):
    return engine.prepare(batch.spec(variant), batch.limits()).plan(batch.qo_indptr, batch.tables, mask=mask)


# ---- torch.compile -------------------------------------------------------------------------------------------------------------------

INDUCTOR = ["inductor"] if DEVICE == "cuda" or os.environ.get("FOVEA_TEST_MATRIX") == "full" else []  # on the CPU it compiles C++ for 20 s


@pytest.mark.parametrize("backend", ["eager", "aot_eager", *INDUCTOR])
def test_compile_fullgraph(engine, backend):
    batch = Batch("csr", "torch", LENGTHS)
    plan = planned(engine, batch)

    def layer(q, k, v, out):
        plan.run(q * 2, (k, v), out=out, sm_scale=0.0625)
        return out + 1

    torch._dynamo.reset()
    out = torch.empty_like(batch.q)
    result = torch.compile(layer, backend=backend, fullgraph=True)(batch.q, batch.cache.k, batch.cache.v, out)
    batch.check(out)
    batch.check(result - 1)


def test_compile_with_everything_that_run_takes(engine):
    batch = Batch("csr_hnd", "torch", LENGTHS)
    plan = planned(engine, batch, "sliding_window+sink", {"window_left": 9})
    sink = torch.linspace(-1, 2, batch.heads, device=DEVICE)

    sees = lambda q_pos, kv_pos: (kv_pos <= q_pos) & (q_pos - kv_pos <= 9)
    for layer in (lambda q, cache, sink: plan.run(q, cache, lse=True, sink=sink, lse_base2=True),
                  lambda q, cache, sink: plan.run(q, fovea.KvCache(cache.k, cache.v, layout="hnd"), lse=True, sink=sink, lse_base2=True)):
        torch._dynamo.reset()
        o, lse = torch.compile(layer, backend="aot_eager", fullgraph=True)(batch.q, batch.cache, sink)
        batch.check(o, lse * np.log(2), sees=sees, extra=values_of(sink))


def test_planning_again_recompiles_nothing(engine):
    import torch._dynamo.testing

    first = Batch("csr", "torch", [(1, 5), (2, 9)])
    attention = engine.prepare(first.spec(), first.limits())
    plan = attention.new_plan()
    counter = torch._dynamo.testing.CompileCounter()
    layer = torch.compile(lambda q, k, v, out: plan.run(q, (k, v), out=out), backend=counter, fullgraph=True, dynamic=False)
    cache = first.cache
    for seed in range(3):
        batch = Batch("csr", "torch", [(1, 5), (2, 9)], seed=seed)
        attention.plan(batch.qo_indptr, batch.tables, into=plan)
        out = torch.empty_like(batch.q)
        layer(batch.q, batch.cache.k, batch.cache.v, out)
        batch.check(out)
    assert counter.frame_count == 1
    assert cache is first.cache


def test_opcheck(engine):
    batch = Batch("csr", "torch", LENGTHS)
    plan = planned(engine, batch)
    arguments = (plan.name, batch.q, batch.cache.k, batch.cache.v, torch.empty_like(batch.q), None, 0.125)
    torch.library.opcheck(torch.ops.fovea.run.default, arguments)
    torch.library.opcheck(torch.ops.fovea.run_with.default, (plan.name, batch.q, [batch.cache.k, batch.cache.v], ["nhd--"], [], torch.empty_like(batch.q),
                                                             None, None, 1.0, 0, 0, [], [], [], [], [], [], [], []))


def test_a_plan_that_is_gone():
    q = torch.zeros(1, 1, 8, device=DEVICE)
    with pytest.raises(RuntimeError, match="no plan is named 'nothing'"):
        torch.ops.fovea.run.default("nothing", q, q, q, q, None, None)


# ---- refused tensors -----------------------------------------------------------------------------------------------------------------

def test_tensors_that_require_grad(engine):
    batch = Batch("csr", "torch", LENGTHS)
    plan = planned(engine, batch, "causal+sink")
    sink = torch.nn.Parameter(torch.zeros(batch.heads, device=DEVICE))
    with pytest.raises(ValueError, match=r"run: sink requires grad; fovea computes no gradients"):
        plan.run(batch.q, batch.cache, sink=sink)
    with pytest.raises(ValueError, match=r"run: q requires grad"):
        plan.run(batch.q.clone().requires_grad_(), batch.cache, sink=sink.detach())
    with pytest.raises(ValueError, match=r"run: kv.v requires grad"):
        plan.run(batch.q, (batch.cache.k, batch.cache.v.clone().requires_grad_()), sink=sink.detach())
    with torch.no_grad():
        batch.check(plan.run(batch.q.clone().requires_grad_(), batch.cache, sink=sink), extra=np.zeros(batch.heads))


def test_tensors_that_require_grad_in_a_graph(engine):
    batch = Batch("csr", "torch", LENGTHS)
    plan = planned(engine, batch)
    weight = torch.nn.Parameter(torch.ones((), device=DEVICE))
    layer = lambda q: plan.run(q * weight, batch.cache)  # noqa: E731
    torch._dynamo.reset()
    with pytest.raises(ValueError, match=r"run: q requires grad; fovea computes no gradients"):
        torch.compile(layer, backend="eager")(batch.q)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"requires grad; fovea computes no gradients"):
        torch.compile(layer, backend="eager", fullgraph=True)(batch.q)
    with torch.no_grad():
        batch.check(torch.compile(layer, backend="eager", fullgraph=True)(batch.q))


def test_lazily_negated_views(engine):
    batch = Batch("csr", "torch", LENGTHS)
    plan = planned(engine, batch)
    with pytest.raises(ValueError, match=r"run: q is a lazily negated view"):
        plan.run(torch._neg_view(batch.q), batch.cache)
    lse = torch.zeros(batch.q.shape[:2], device=DEVICE)
    for kv in (batch.cache, (batch.cache.k, batch.cache.v)):
        with pytest.raises(ValueError, match=r"run: lse is a lazily negated view"):
            plan.run(batch.q, kv, lse=torch._neg_view(lse))


def test_tensors_of_masks(engine):
    batch = Batch("csr", "torch", LENGTHS)
    attention = engine.prepare(batch.spec("prefix_lm"), batch.limits())
    lengths = torch.zeros(len(LENGTHS), device=DEVICE)
    for wrong, text in ((torch._neg_view(lengths), "a lazily negated view"), (lengths.clone().requires_grad_(), "requires grad"),
                        (lengths.to("meta"), "no memory behind it")):
        with pytest.raises(ValueError, match=f"plan: prefix_len .*{text}"):
            attention.plan(batch.qo_indptr, batch.tables, mask={"prefix_len": wrong})


def test_fake_and_meta_tensors(engine):
    from torch._subclasses.fake_tensor import FakeTensorMode

    batch = Batch("csr", "torch", LENGTHS)
    plan = planned(engine, batch)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(batch.q)
    with pytest.raises(ValueError, match=r"run: q has no memory behind it \(a fake or meta tensor\?\)"):
        plan.run(fake, batch.cache, out=torch.empty_like(batch.q))
    out, meta = torch.empty_like(batch.q), batch.q.to("meta")
    with pytest.raises(ValueError, match=r"run: q has no memory behind it \(a meta tensor\)"):
        plan.run(meta, batch.cache, out=out)
    with pytest.raises(ValueError, match=r"run: kv.k has no memory behind it \(a meta tensor\)"):
        plan.run(batch.q, (batch.cache.k.to("meta"), batch.cache.v), out=out)
    with pytest.raises(ValueError, match=r"run: kv.v has no memory behind it \(a meta tensor\)"):
        plan.run(batch.q, fovea.KvCache(batch.cache.k, batch.cache.v.to("meta")), out=out)
    with pytest.raises(ValueError, match=r"plan: kv\[0\].page_indices has no memory behind it \(a meta tensor\)"):
        plan.attention.plan(batch.qo_indptr, batch.tables._replace(page_indices=batch.tables.page_indices.to("meta")))
    batch.check(plan.run(batch.q, batch.cache))


def test_sparse_and_strided_tensors(engine):
    batch = Batch("csr", "torch", LENGTHS)
    plan = planned(engine, batch)
    wide = torch.zeros(*batch.q.shape[:2], batch.dim + 8, device=DEVICE)
    wide[..., : batch.dim] = batch.q
    out = torch.zeros(batch.q.shape[0], 2 * batch.heads, batch.dim, device=DEVICE)
    batch.check(plan.run(wide[..., : batch.dim], batch.cache, out=out[:, ::2]))
    with pytest.raises(ValueError, match="run: q has innermost stride 4; it must be 1"):
        plan.run(batch.q.transpose(1, 2).contiguous().transpose(1, 2), batch.cache)
    with pytest.raises(ValueError, match=r"run: q has no memory that can be read \(a sparse tensor, or one inside a transform of torch.func\?\)"):
        plan.run(batch.q.to_sparse(), batch.cache, out=torch.empty_like(batch.q))
    with pytest.raises(ValueError, match=r"run: q has no memory that can be read"):
        torch.vmap(lambda q: plan.run(q, batch.cache, out=torch.empty_like(batch.q)))(batch.q[None])
