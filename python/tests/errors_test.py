"""What a caller gets wrong, and the words it is told: kinds of errors, values in the text, and that the next call works."""

import copy
import dataclasses
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
from formula import DEVICE, TENSORS, Batch, tensor

import fovea

LENGTHS = [(1, 40), (3, 16)]
LIBRARY = TENSORS[0]
BAD_TEXT = "struct MyCap : VariantBase {\n  int cap\n};\n"


@pytest.fixture(scope="module")
def batch():
    return Batch("csr", LIBRARY, LENGTHS)


@pytest.fixture(scope="module")
def engine():
    return fovea.Engine(DEVICE)


@pytest.fixture(scope="module")
def attention(engine, batch):
    return engine.prepare(batch.spec(), batch.limits())


PREPARE = [
    (dict(head_dim_qk=4097), ValueError, r"prepare: head_dim_qk = 4097; it must be 1 to 1024"),
    (dict(num_kv_heads=3), ValueError, r"prepare: num_qo_heads = 4"),
    (dict(o_dtype="e4m3"), ValueError, r"prepare: o_dtype is e4m3; outputs are f32, f16 or bf16"),
    (dict(variant="nope"), ValueError, r"prepare: no variant is named 'nope'; known: alibi"),
    (dict(kv_quant="page"), ValueError, r"prepare: kv_quant 'page' is none of none, tensor, head, token"),
    (dict(num_qo_heads=2.5), TypeError, r"prepare: num_qo_heads is a float; it must be an int"),
    (dict(variant=fovea.variant(BAD_TEXT, file="cap.h")), RuntimeError, r"(?s)compile: variant 'my_cap' .*cap.h\(2\): error"),
]


@pytest.mark.parametrize("fields, kind, text", PREPARE)
def test_prepare(engine, batch, fields, kind, text):
    with pytest.raises(kind, match=text):
        engine.prepare(dataclasses.replace(batch.spec(), **fields), batch.limits())


def test_prepare_limits_and_options(engine, batch):
    with pytest.raises(ValueError, match=r"prepare: limits.max_requests = -1; it must be 1 to"):
        engine.prepare(batch.spec(), fovea.Limits(max_requests=-1))
    with pytest.raises(ValueError, match=r"prepare: policy 'fast' is none of throughput, batch_invariant, fixed_split"):
        engine.prepare(batch.spec(), policy="fast")
    with pytest.raises(TypeError, match=r"prepare: fixed_split is a str; it must be an int"):
        engine.prepare(batch.spec(), fixed_split="all")
    with pytest.raises(TypeError, match=r"prepare: spec is dict; it must be a fovea.AttentionSpec"):
        engine.prepare({})
    with pytest.raises(TypeError, match=r"prepare: limits is int; it must be a fovea.Limits"):
        engine.prepare(batch.spec(), 5)


SPECS = [
    (dict(q_dtype="f64"), ValueError, r"q_dtype is 'f64'; it must be one of f32"),
    (dict(k_dtype=np.int32), ValueError, r"k_dtype is .*int32"),
    (dict(variant=3), TypeError, r"variant is int; it must be a str or a fovea.Variant"),
    (dict(formats=16), TypeError, r"formats holds int; it must be a fovea.KvFormat"),
    (dict(formats=[16]), TypeError, r"formats holds int; it must be a fovea.KvFormat"),
]


@pytest.mark.parametrize("fields, kind, text", SPECS)
def test_specs(fields, kind, text):
    with pytest.raises(kind, match=text):
        fovea.AttentionSpec(8, 2, 64, **fields)


def test_variants_from_text():
    with pytest.raises(ValueError, match=r"variant: the text defines 0 structs derived from VariantBase"):
        fovea.variant("struct A {};")
    with pytest.raises(ValueError, match=r"defines 2 structs derived from VariantBase \(A, B\); one is needed, or name="):
        fovea.variant("struct A : VariantBase {};\nstruct B : VariantBase {};")
    with pytest.raises(TypeError, match=r"variant: source is int; it must be a str of C\+\+"):
        fovea.variant(3)
    assert fovea.variant("struct ALiBi2D : VariantBase {};").name == "a_li_bi2_d"
    assert (fovea.variant(BAD_TEXT) + "causal" + fovea.variant(BAD_TEXT)).name == "my_cap+causal+my_cap"
    assert len((fovea.variant(BAD_TEXT) + fovea.variant(BAD_TEXT)).sources) == 1


PLANS = [
    (dict(qo_indptr=[0, 2, 1]), ValueError, r"plan: qo_indptr\[2\] = 1 is less than qo_indptr\[1\] = 2; it must not decrease"),
    (dict(qo_indptr=[0, 1, 2.5]), TypeError, r"plan: qo_indptr\[2\] is no integer of 32 bits"),
    (dict(qo_indptr=[0, 1, 2**31]), TypeError, r"plan: qo_indptr\[2\] is no integer of 32 bits"),
    (dict(qo_indptr="all"), TypeError, r"plan: qo_indptr is a str; it must be a tensor"),
    (dict(tables=None), TypeError, r"plan: tables is NoneType; it must be a fovea.KvTables"),
    (dict(mask={"window": 1}), ValueError, r"plan: variant 'causal' has no mask named 'window'; it has none"),
    (dict(mask=7), TypeError, r'mask is int; it must be a dict of values, None for defaults, or "any"'),
    (dict(mask=[None, None]), ValueError, r"plan: 2 mask groups are over Limits::max_mask_groups = 1"),
    (dict(mask=np.zeros(3)), TypeError, r"mask is ndarray; it must be a dict of values"),
    (dict(into="plan"), TypeError, r"plan: into is str; it must be a fovea.Plan"),
    (dict(max_query_tokens="x"), TypeError, r"plan: max_query_tokens is a str; it must be an int"),
]


@pytest.mark.parametrize("fields, kind, text", PLANS)
def test_plan(attention, batch, fields, kind, text):
    plan = attention.plan(batch.qo_indptr, batch.tables)
    with pytest.raises(kind, match=text):
        attention.plan(**{"qo_indptr": batch.qo_indptr, "tables": batch.tables, "into": plan, **fields})
    assert plan.generation == 1
    batch.check(plan.run(batch.q, batch.cache))  # what it was before


def test_plan_of_int64_lengths_and_of_two_formats(attention, batch):
    with pytest.raises(ValueError, match=r"plan: qo_indptr has dtype i64; it needs i32"):
        attention.plan(np.array([0, 1, 4]), batch.tables)
    with pytest.raises(ValueError, match=r"plan: kv has 2 tables but the spec has 1 formats"):
        attention.plan(batch.qo_indptr, [batch.tables, batch.tables])
    with pytest.raises(TypeError, match=r"plan: page_indices is a list; it must be a tensor"):
        attention.plan([0, 1, 2], fovea.KvTables.csr([0, 1, 2], [0, 1], [1, 1]))


def test_run(attention, batch):
    plan = attention.plan(batch.qo_indptr, batch.tables)
    wrong = [
        (dict(q="q"), TypeError, r"run: q is a str; it must be a tensor"),
        (dict(q=[1.0]), TypeError, r"run: q is a list; it must be a tensor"),
        (dict(kv=batch.cache.k), TypeError, r"kv is \w+; it must be a fovea.KvCache, a tuple \(k, v\), or a list"),
        (dict(kv=[batch.cache, batch.cache]), ValueError, r"run: kv has 2 caches but the spec has 1 formats"),
        (dict(kv=(batch.cache.k[..., :8], batch.cache.v)), ValueError, r"run: kv\[0\].k "),
        (dict(out=batch.q), ValueError, r"run: o overlaps q in memory; what is written must lie apart"),
        (dict(out=tensor(np.zeros(batch.q.shape), "f16", LIBRARY)), ValueError, r"run: o has dtype f16; "),
        (dict(lse=tensor(np.zeros((2, 4)), "f32", LIBRARY)), ValueError, r"run: lse "),
        (dict(sm_scale="big"), TypeError, r"run: sm_scale is a str; it must be a number"),
        (dict(mask_group=3), ValueError, r"run: mask_group = 3; the plan has 1 mask group, counted from 0"),
        (dict(mask_group=2**40), ValueError, r"run: mask_group = 1099511627776 does not fit into 32 bits"),
        (dict(cap=1.0), ValueError, r"run: variant 'causal' has no params named 'cap'; it has none"),
        (dict(cap="x"), TypeError, r"run: cap is a str; it must be a number or a tensor"),
    ]
    for fields, kind, text in wrong:
        out = tensor(np.zeros(batch.q.shape), "f32", LIBRARY)
        with pytest.raises(kind, match=text):
            plan.run(**{"q": batch.q, "kv": batch.cache, "out": out, **fields})
    batch.check(plan.run(batch.q, batch.cache))
    for q in ([1.0], None):
        with pytest.raises(TypeError, match=r"run: out \(and lse\) must be given where q is a \w+; new ones are made for torch and NumPy"):
            plan.run(q, batch.cache)
    with pytest.raises(TypeError, match=r"run: k is None; it must be a tensor"):
        plan.run(batch.q, fovea.KvCache(None, None))
    with pytest.raises(TypeError, match=r"run: lse is a bool; it must be a tensor"):
        plan.run(batch.q, batch.cache, lse=False)
    if isinstance(batch.q, np.ndarray):
        with pytest.raises(ValueError, match=r"run: q: from_dlpack: float64 is none of the dtypes that fovea knows"):
            plan.run(batch.q.astype(np.float64), batch.cache)


def test_run_of_a_plan_of_another(engine, attention, batch):
    other = engine.prepare(batch.spec("full"), batch.limits())
    with pytest.raises(ValueError, match=r"plan: into belongs to another Attention"):
        attention.plan(batch.qo_indptr, batch.tables, into=other.new_plan())
    with pytest.raises(ValueError, match=r"run: the plan has not been planned"):
        attention.new_plan().run(batch.q, batch.cache)


def test_check_pages(attention, batch):
    plan = attention.plan(batch.qo_indptr, batch.tables)
    plan.check_pages(batch.cache.k.shape[0])
    with pytest.raises(ValueError, match=r"check_pages: format 0: page \d+ of request \d, table entry \d, is \d+; the cache has 1 pages"):
        plan.check_pages([1])
    plan.check_pages(np.int64(batch.cache.k.shape[0]))
    with pytest.raises(TypeError, match=r"check_pages: num_pages is a float; it must be an int"):
        plan.check_pages(8.0)


def test_caches():
    x = np.zeros((4, 2, 16, 2, 64), np.float32)
    with pytest.raises(ValueError, match=r"KvCache: layout is 'nhwc'; it must be 'nhd' or 'hnd'"):
        fovea.KvCache(x, x, layout="nhwc")
    with pytest.raises(ValueError, match=r"KvCache.interleaved: axis 1 of kv has extent 16; it needs 2, K and V"):
        fovea.KvCache.interleaved(x.swapaxes(1, 2))
    with pytest.raises(ValueError, match=r"KvCache.interleaved: kv has 4 axes"):
        fovea.KvCache.interleaved(x[0])
    with pytest.raises(ValueError, match=r"KvCache.halves: head_dim_qk 64 does not cut the last axis of kv, extent 64, in two"):
        fovea.KvCache.halves(x, 64)
    with pytest.raises(AttributeError, match=r"KvCache.k can't be set: make another KvCache"):
        fovea.KvCache(x, x).k = x
    with pytest.raises(ValueError, match=r"KvCache.v_in_k: head_dim_vo 65"):
        fovea.KvCache.v_in_k(x, 65)


def test_engines():
    with pytest.raises(ValueError, match=r"engine: no backend is named 'tpu'; known: cpu, cuda, reference"):
        fovea.Engine("tpu")
    with pytest.raises(ValueError, match=r"engine: no isa is named 'sse'"):
        fovea.Engine("cpu", isa="sse")
    with pytest.raises(TypeError, match=r"engine: backend is an int; it must be a str"):
        fovea.Engine(3)


def test_copies_and_pickles(engine, attention, batch):
    spec = attention.spec
    assert pickle.loads(pickle.dumps(spec)) == spec and hash(spec) == hash(copy.deepcopy(spec))
    for shared in (engine, attention):
        assert copy.copy(shared) is shared and copy.deepcopy([shared])[0] is shared
    plan = attention.new_plan()
    assert copy.copy(plan)._object is plan._object
    for refused in (engine, attention, plan):
        with pytest.raises(TypeError, match=r"a fovea.\w+ can't be pickled; "):
            pickle.dumps(refused)
    with pytest.raises(TypeError, match=r"a fovea.Plan can't be copied; make another"):
        copy.deepcopy(plan)


def test_copies_of_caches(attention, batch):
    plan = attention.plan(batch.qo_indptr, batch.tables)
    batch.check(plan.run(batch.q, batch.cache))
    assert copy.copy(batch.cache).k is batch.cache.k
    for copied in (copy.deepcopy(batch.cache), pickle.loads(pickle.dumps(batch.cache))):
        assert copied.k is not batch.cache.k and copied.layout == batch.cache.layout
        batch.check(plan.run(batch.q, copied))


def test_a_plan_keeps_page_ids_whatever_becomes_of_the_list(engine, batch):
    attention = engine.prepare(batch.spec(), batch.limits())
    tables = [tables_of_own_memory(batch)]
    page_ids = weakref.ref(tables[0].page_indices)
    plan = attention.plan(batch.qo_indptr, tables)
    tables.clear()
    assert page_ids() is not None
    batch.check(plan.run(batch.q, batch.cache))
    attention.plan(batch.qo_indptr, batch.tables, into=plan)
    assert page_ids() is None


def tables_of_own_memory(batch):
    copied = batch.tables.page_indices
    return batch.tables._replace(page_indices=copied.copy() if isinstance(copied, np.ndarray) else copied.clone())


@pytest.mark.skipif("numpy" not in TENSORS, reason="NumPy arrays are the CPU's")
def test_read_only_and_foreign_arrays(attention, batch):
    plan = attention.plan(batch.qo_indptr, batch.tables)
    q = batch.q.copy()
    q.flags.writeable = False
    with pytest.raises(ValueError, match=r"run: q is a read-only array"):
        plan.run(q, batch.cache)
    with pytest.raises(ValueError, match=r"run: an argument's memory can't be borrowed: .*byte order"):
        plan.run(batch.q.astype(">f4"), batch.cache)
    with pytest.raises(ValueError, match=r"run: q: from_dlpack: complex64 is none of the dtypes"):
        plan.run(batch.q.astype(np.complex64), batch.cache)
    lengths = np.array(batch.qo_indptr)
    lengths.flags.writeable = False
    with pytest.raises(ValueError, match=r"plan: qo_indptr is a read-only array"):
        attention.plan(lengths, batch.tables)


def test_importing_loads_nothing():
    code = "import sys, fovea, fovea.report; assert not {'tvm_ffi', 'torch', 'numpy'} & set(sys.modules); assert 'Engine' in dir(fovea)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="fovea has no attribute 'engines'"):
        fovea.engines
