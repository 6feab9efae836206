"""What stands around plan and run: scales, several formats, block-sparse matrices, appending, merging, classes of tiles, what an engine says."""

import threading

import numpy as np
import pytest
from formula import DEVICE, TENSORS, Batch, attend, host, tensor, values_of

import fovea


@pytest.fixture(scope="module")
def engine():
    return fovea.Engine(DEVICE)


def spec_f32(heads=4, kv_heads=2, dim=64, **fields):
    return fovea.AttentionSpec(heads, kv_heads, dim, q_dtype="f32", k_dtype="f32", v_dtype="f32", o_dtype="f32", **fields)


@pytest.mark.parametrize("library", [x for x in TENSORS if x == "torch"])  # NumPy has no 8-bit dtype
@pytest.mark.parametrize("quant", ["tensor", "head", "token"])
def test_scales(engine, library, quant):
    batch = Batch("csr", library, [(1, 40), (3, 17)], q="bf16", kv="e4m3")
    rng = np.random.default_rng(1)
    shape = {"tensor": (1,), "head": (batch.kv_heads,), "token": batch.cache.k.shape[:3]}[quant]
    scales = [rng.uniform(0.5, 2, shape).astype(np.float32) for _ in range(2)]
    plan = engine.prepare(batch.spec(kv_quant=quant), batch.limits()).plan(batch.qo_indptr, batch.tables)
    cache = fovea.KvCache(batch.cache.k, batch.cache.v, k_scale=tensor(scales[0], "f32", library), v_scale=tensor(scales[1], "f32", library))
    # The formula on dequantised keys and values: token scales lie where the cache's pages do, and are taken out as it is.
    stored, batch.cache = batch.cache, None
    of_pages = [np.broadcast_to(x.reshape(*([1] * (3 - x.ndim)), *x.shape) if x.ndim < 3 else x, stored.k.shape[:3]) for x in scales]
    ids, indptr = values_of(batch.tables.page_indices).astype(int), values_of(batch.tables.page_indptr).astype(int)
    batch.kv = [tuple(x * of[ids[indptr[r]:indptr[r + 1]]].reshape(-1, batch.kv_heads)[: len(x), :, None] for x, of in zip(both, of_pages))
                for r, both in enumerate(batch.kv)]
    batch.check(plan.run(batch.q, cache))
    if quant == "tensor":
        batch.check(plan.run(batch.q, fovea.KvCache(stored.k, stored.v, k_scale=float(scales[0][0]), v_scale=float(scales[1][0]))))


@pytest.mark.parametrize("library", TENSORS)
def test_a_shared_prefix_in_a_format_of_its_own(engine, library):
    """Two requests, a prefix of 32 tokens read once for both, and 5 and 9 tokens of their own."""
    rng = np.random.default_rng(2)
    k, v = (rng.standard_normal((8, 16, 2, 64), dtype=np.float32) for _ in range(2))
    q = rng.standard_normal((2, 4, 64), dtype=np.float32)
    cache = fovea.KvCache(tensor(k, "f32", library), tensor(v, "f32", library))
    i32 = lambda x: tensor(np.array(x, np.int32), "i32", library)
    on_host = lambda x: host(x, library)
    attention = engine.prepare(spec_f32(variant="causal", formats=[fovea.KvFormat.paged(16)] * 2), fovea.Limits(max_requests=4))
    prefix = fovea.KvTables.csr(on_host([0, 2]), i32([6, 1]), on_host([16]), row_indptr=on_host([0, 2]))
    own = fovea.KvTables.csr(on_host([0, 1, 2]), i32([3, 4]), on_host([5, 9]))
    plan = attention.plan(on_host([0, 1, 2]), [prefix, own])
    o = values_of(plan.run(tensor(q, "f32", library), [cache, cache]))
    for r, (page, length) in enumerate([(3, 5), (4, 9)]):
        keys, values = (np.concatenate([x[6], x[1], x[page][:length]]) for x in (k, v))
        np.testing.assert_allclose(o[r:r + 1], attend(q[r:r + 1], keys, values)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("library", TENSORS)
def test_block_sparse(engine, library):
    """4 x 8 blocks: row block 0 holds blocks 2 and 0, row block 1 block 1."""
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((n, h, 64), dtype=np.float32) for n, h in ((8, 4), (24, 2), (24, 2)))
    attention = engine.prepare(spec_f32(variant="full", formats=fovea.KvFormat.block_sparse(4, 8)), fovea.Limits(max_requests=1, max_query_tokens=8))
    tables = fovea.KvTables.block_sparse(host([0, 2, 3], library), tensor(np.array([2, 0, 1], np.int32), "i32", library))
    plan = attention.plan(host([0, 8], library), tables, kv_len=host([24], library))
    cache = [tensor(x.reshape(3, 8, 2, 64), "f32", library) for x in (k, v)]
    o = values_of(plan.run(tensor(q, "f32", library), tuple(cache)))
    seen = np.zeros((8, 24), bool)
    seen[:4, :8] = seen[:4, 16:] = seen[4:, 8:16] = True
    np.testing.assert_allclose(o, attend(q, k, v, sees=lambda *_: seen)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("library", TENSORS)
def test_append(engine, library):
    rng = np.random.default_rng(4)
    new = rng.standard_normal((3, 2, 64), dtype=np.float32)
    for by in ("slot", "request"):
        k, v = (tensor(np.zeros((4, 16, 2, 64)), "f32", library) for _ in range(2))
        arguments = (tensor(new, "f32", library), tensor(new + 1, "f32", library), (k, v))
        if by == "slot":
            engine.append_kv(*arguments, slot_mapping=tensor(np.array([37, -1, 5]), "i64", library))
            places = {37: 0, 5: 2}
        else:  # request 0 gets two tokens, its 16th and 17th, request 1 its 1st
            tables = fovea.KvTables.csr(host([0, 2, 3], library), tensor(np.array([2, 0, 3], np.int32), "i32", library), host([1, 1], library))
            engine.append_kv(*arguments, append_indptr=host([0, 2, 3], library), tables=tables)
            places = {2 * 16 + 15: 0, 0: 1, 3 * 16: 2}
        expected = np.zeros((64, 2, 64))
        for place, token in places.items():
            expected[place] = new[token]
        np.testing.assert_array_equal(values_of(k).reshape(64, 2, 64), expected)
        np.testing.assert_array_equal(values_of(v).reshape(64, 2, 64)[list(places)], new[list(places.values())] + 1)
    with pytest.raises(ValueError, match="append_kv: "):
        engine.append_kv(*arguments)
    with pytest.raises(TypeError, match="append_kv: tables is list; it must be a fovea.KvTables"):
        engine.append_kv(*arguments, append_indptr=[0, 2, 3], tables=[tables])
    if library == "numpy":
        read_only = np.zeros((4, 16, 2, 64), np.float32)
        read_only.flags.writeable = False
        with pytest.raises(ValueError, match="append_kv: cache.k is a read-only array"):
            engine.append_kv(new, new, (read_only, v), slot_mapping=np.zeros(3, np.int64))


@pytest.mark.parametrize("library", TENSORS)
def test_states_of_two_halves_merge(engine, library):
    batch = Batch("ragged", library, [(2, 60)])
    k, v = values_of(batch.cache.k), values_of(batch.cache.v)
    attention = engine.prepare(batch.spec("full"), batch.limits())
    states = []
    for part in (slice(0, 25), slice(25, 60)):
        plan = attention.plan([0, 2], fovea.KvTables.ragged([0, part.stop - part.start]))
        states.append(plan.run(batch.q, (tensor(k[part], "f32", library), tensor(v[part], "f32", library)), lse=True, states=True))
    o, lse = (tensor(np.full(x.shape, np.nan), "f32", library) for x in states[0])
    assert engine.merge_states(states, out=o, lse=lse)[0] is o
    batch.check(o, lse, sees=lambda q_pos, kv_pos: kv_pos < 60)
    with pytest.raises(ValueError, match="merge_states: "):
        engine.merge_states([], out=o, lse=lse)
    with pytest.raises(TypeError, match=r"merge_states: a state is \w+; it must be a tuple \(o, lse\)"):
        engine.merge_states([o], out=o, lse=lse)
    again, again_lse = (tensor(np.zeros(x.shape), "f32", library) for x in (o, lse))
    engine.merge_states(iter([(o, lse)]), out=again, lse=again_lse)
    assert np.array_equal(values_of(again), values_of(o)) and np.array_equal(values_of(again_lse), values_of(lse))


@pytest.mark.skipif(DEVICE != "cpu", reason="the host classifies")
def test_classes_of_tiles_of_an_opaque_mask(engine):
    parity = fovea.variant("""struct Blocks : VariantBase {
      struct Mask {
        int32_t width;
        FOVEA_FN bool keep(const Position<>& at) const { return at.kv_pos / width == at.q_pos / width; }
        FOVEA_FN constexpr KvRange range() const { return {}; }
        FOVEA_FIELDS(Mask, FOVEA_REQUIRED_AT_LEAST(width, 1))
      };
      Mask m;
    };""")
    batch = Batch("ragged", TENSORS[0], [(256, 256), (128, 192)])
    attention = engine.prepare(batch.spec(parity), batch.limits())
    mask = {"width": 64}
    tiles = attention.classify_tiles(batch.qo_indptr, batch.tables, mask=mask, heads_alike=True)
    assert tiles.classes.size == 16 + 6 and sorted(set(tiles.classes)) == [0, 2]
    asked = attention.plan(batch.qo_indptr, batch.tables, mask=mask).count_tiles()
    plan = attention.plan(batch.qo_indptr, batch.tables, mask={**mask, "tiles": tiles})
    told = plan.count_tiles()
    assert told["mixed"] < asked["mixed"] and told["empty"] > asked["empty"]
    batch.check(plan.run(batch.q, batch.cache), sees=lambda q_pos, kv_pos: kv_pos // 64 == q_pos // 64)


def test_plans_of_several_threads(engine):
    batches = [Batch("csr", TENSORS[0], [(1, 30 + 7 * i), (2, 50)], seed=i) for i in range(4)]
    attention = engine.prepare(batches[0].spec(), batches[0].limits())
    failed = []

    def work(batch):
        try:
            for _ in range(5):
                batch.check(attention.attend(batch.q, batch.cache, batch.qo_indptr, batch.tables))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(batch,)) for batch in batches]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failed


def test_what_an_engine_says(engine):
    assert engine.device.startswith(DEVICE) and DEVICE in engine.describe() and DEVICE in repr(engine)
    assert engine.variants()["sliding_window"] == {"masks": ["window_left", "num_sink_tokens"], "params": [], "interval": "sound"}
    assert engine.status() == []
    engine.synchronise()
    attention = engine.prepare(spec_f32(), fovea.Limits(max_requests=3))
    assert attention.limits.max_query_tokens == 3 and attention.limits.max_kv_tokens_per_request == 131072
    assert attention.workspace_bytes > 0 and "kernels on" in attention.explain()
    plan = attention.new_plan()
    assert plan.generation == 0 and "planned 0 times" in repr(plan)


def test_default_engines():
    assert fovea.default_engine(DEVICE) is fovea.default_engine(DEVICE + ":0")
