"""prepare, plan and run against the formula: every layout, dtype and length that Python can say."""

import numpy as np
import pytest
from formula import DEVICE, TENSORS, Batch, host, tensor, torch, values_of

import fovea

LENGTHS = [(1, 1), (1, 40), (3, 16), (0, 5), (17, 33), (2, 0), (5, 64)]


@pytest.fixture(scope="module")
def engine():
    return fovea.Engine(DEVICE)


@pytest.mark.parametrize("library", TENSORS)
@pytest.mark.parametrize("layout", Batch.LAYOUTS)
def test_layouts(engine, library, layout):
    batch = Batch(layout, library, LENGTHS)
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    o, lse = plan.run(batch.q, batch.cache, lse=True)
    batch.check(o, lse)


DTYPES = [("f32", "f32"), ("f16", "f16"), ("f32", "f16"), ("bf16", "bf16"), ("bf16", "e4m3"), ("bf16", "e5m2"), ("f16", "e4m3"), ("e4m3", "e4m3")]


@pytest.mark.parametrize("q, kv", DTYPES)
@pytest.mark.parametrize("library", TENSORS)
def test_dtypes(engine, library, q, kv):
    if library == "numpy" and not {q, kv} <= {"f32", "f16"}:
        pytest.skip("NumPy has no such dtype")
    batch = Batch("csr", library, LENGTHS, q=q, kv=kv)
    plan = engine.prepare(batch.spec(), batch.limits()).plan(batch.qo_indptr, batch.tables)
    batch.check(*plan.run(batch.q, batch.cache, lse=True))


@pytest.mark.parametrize("library", TENSORS)
def test_lengths_as_lists(engine, library):
    batch = Batch("table_2d", library, LENGTHS)
    attention = engine.prepare(batch.spec(), batch.limits())
    tables = fovea.KvTables.table_2d(batch.tables.page_table, [kv for _, kv in LENGTHS])
    plan = attention.plan([int(x) for x in batch.qo_begin], tables)
    batch.check(plan.run(batch.q, batch.cache))


@pytest.mark.parametrize("library", TENSORS)
def test_planning_again_into_the_same_plan(engine, library):
    first = Batch("csr", library, LENGTHS)
    attention = engine.prepare(first.spec(), first.limits())
    plan = attention.new_plan()
    for seed, lengths in enumerate([LENGTHS, [(1, 7)], [], [(4, 100)] * 9]):
        batch = Batch("csr", library, lengths, seed=seed)
        assert attention.plan(batch.qo_indptr, batch.tables, into=plan) is plan
        assert plan.generation == seed + 1
        out = tensor(np.full(batch.q.shape, np.nan), "f32", library)
        assert plan.run(batch.q, (batch.cache.k, batch.cache.v), out=out) is out
        batch.check(out) if lengths else None


def sliding(left):
    return lambda q_pos, kv_pos: (kv_pos <= q_pos) & (q_pos - kv_pos <= left)


@pytest.mark.parametrize("library", TENSORS)
def test_variants_with_masks_and_params(engine, library):
    batch = Batch("csr", library, LENGTHS)
    sink = np.linspace(-1, 2, batch.heads, dtype=np.float32)
    plan = engine.prepare(batch.spec("sliding_window+sink"), batch.limits()).plan(batch.qo_indptr, batch.tables, mask={"window_left": 9})
    o, lse = plan.run(batch.q, batch.cache, lse=True, sink=tensor(sink, "f32", library), sm_scale=0.25)
    batch.check(o, lse, sees=sliding(9), extra=sink, scale=0.25)


@pytest.mark.parametrize("library", TENSORS)
def test_several_masks_in_one_plan(engine, library):
    batch = Batch("csr", library, LENGTHS)
    attention = engine.prepare(batch.spec("sliding_window"), batch.limits(max_mask_groups=3))
    plan = attention.plan(batch.qo_indptr, batch.tables, mask=[{"window_left": 3}, {"window_left": 20}, "any"])
    batch.check(plan.run(batch.q, batch.cache, mask_group=0), sees=sliding(3))
    batch.check(plan.run(batch.q, batch.cache, mask_group=1), sees=sliding(20))
    batch.check(plan.run(batch.q, batch.cache, mask_group=2, mask={"window_left": 7}), sees=sliding(7))


MY_CAP = """struct MyCap : VariantBase {
  struct Params {
    float cap;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>&) const {
    return T(p.cap) * math::tanh(logit / T(p.cap));
  }
  Params p;
};
"""


@pytest.mark.parametrize("library", TENSORS)
def test_a_variant_from_text(engine, library):
    batch = Batch("csr", library, LENGTHS)
    variant = "causal" + fovea.variant(MY_CAP)
    assert variant.name == "causal+my_cap" and variant.parts == ("causal", "my_cap")
    plan = engine.prepare(batch.spec(variant), batch.limits()).plan(batch.qo_indptr, batch.tables)
    batch.check(plan.run(batch.q, batch.cache, cap=0.5), logit=lambda x, *_: 0.5 * np.tanh(x / 0.5))
    assert any(record["variant"] == "causal+my_cap" for record in engine.compiled())


@pytest.mark.parametrize("library", TENSORS)
def test_attend_in_one_call(library):
    batch = Batch("csr_hnd", library, LENGTHS)
    batch.check(*fovea.attend(batch.q, batch.cache, batch.qo_indptr, batch.tables, lse=True))
    batch.check(fovea.attend(batch.q, batch.cache, batch.qo_indptr, batch.tables, variant="soft_cap+causal", cap=2.0), logit=lambda x, *_: 2 * np.tanh(x / 2))


def test_attend_reads_any_spelling_of_a_layout():
    batch = Batch("csr_hnd", TENSORS[0], [(1, 40), (3, 16)])
    cache = fovea.KvCache(batch.cache.k, batch.cache.v, layout="HND")
    assert cache.layout == "hnd"
    batch.check(fovea.attend(batch.q, cache, batch.qo_indptr, batch.tables))


@pytest.mark.parametrize("fields, kind, text", [
    (dict(q=[1.0]), TypeError, r"attend: q is list; it must be a tensor"),
    (dict(q=np.zeros((4, 64), np.float32)), ValueError, r"attend: q has 2 axes; it needs \[tokens, num_qo_heads, head_dim_qk\]"),
    (dict(qo_indptr=2), TypeError, r"attend: qo_indptr is int; it must be a tensor or a list"),
    (dict(tables=5), TypeError, r"attend: tables is int; it must be a fovea.KvTables"),
])
def test_attend_refuses(fields, kind, text):
    batch = Batch("csr", TENSORS[0], [(1, 40), (3, 16)])
    with pytest.raises(kind, match=text):
        fovea.attend(**{"q": batch.q, "kv": batch.cache, "qo_indptr": batch.qo_indptr, "tables": batch.tables, **fields})
