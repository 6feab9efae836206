"""One request's keys and values in every layout that engines keep them in: the same attention from each."""

import numpy as np

import fovea

HEADS, KV_HEADS, DIM, TOKENS, PAGE = 4, 2, 64, 40, 16
engine = fovea.Engine("cpu")
rng = np.random.default_rng(0)
keys, values = (rng.standard_normal((TOKENS, KV_HEADS, DIM), dtype=np.float32) for _ in range(2))
q = rng.standard_normal((1, HEADS, DIM), dtype=np.float32)


def attend(formats, tables, kv, **batch):
    spec = fovea.AttentionSpec(HEADS, KV_HEADS, DIM, q_dtype="f32", k_dtype="f32", v_dtype="f32", o_dtype="f32", formats=formats)
    limits = fovea.Limits(max_requests=4, max_kv_tokens_per_request=1024, max_row_groups=16)
    return engine.prepare(spec, limits).plan([0, 1], tables, **batch).run(q, kv)


def pages_of(tokens, page_size, num_pages, ids):
    """tokens [n, heads, dim] in pages `ids` of a cache [num_pages, page_size, heads, dim]; NaN in every other slot."""
    cache = np.full((num_pages, page_size, *tokens.shape[1:]), np.nan, np.float32)
    for place, page in enumerate(ids):
        part = tokens[place * page_size : (place + 1) * page_size]
        cache[page, : len(part)] = part
    return cache


expected = attend(fovea.KvFormat.ragged(), fovea.KvTables.ragged([0, TOKENS]), (keys, values))
k, v = (pages_of(x, PAGE, 8, [5, 1, 3]) for x in (keys, values))
results = {}

# [tables]
# The same three pages, as CSR and as a 2-D table of any width.
csr = fovea.KvTables.csr(page_indptr=[0, 3], page_indices=np.array([5, 1, 3], np.int32), last_page_len=[8])
table = fovea.KvTables.table_2d(np.array([[5, 1, 3, -1]], np.int32), kv_len=[40])  # what lies behind kv_len is not read
# [/tables]
results["csr"] = attend(fovea.KvFormat.paged(PAGE), csr, (k, v))
results["table"] = attend(fovea.KvFormat.paged(PAGE), table, (k, v))

# [caches]
hnd = fovea.KvCache(k.transpose(0, 2, 1, 3).copy(), v.transpose(0, 2, 1, 3).copy(), layout="hnd")  # [pages, heads, page_size, dim]
interleaved = fovea.KvCache.interleaved(np.stack([k, v], axis=1))  # [pages, 2, page_size, heads, dim]
two_planes = fovea.KvCache(*np.stack([k, v]))  # [2, pages, page_size, heads, dim]
halves = fovea.KvCache.halves(np.concatenate([k, v], axis=3), head_dim_qk=DIM)  # [pages, page_size, heads, 2 * dim]
# [/caches]
for name, cache in {"hnd": hnd, "interleaved": interleaved, "two planes": two_planes, "halves": halves}.items():
    results[name] = attend(fovea.KvFormat.paged(PAGE), table, cache)

# [slots]
# Page size 1: a slot for every token, in any order, as SGLang keeps them. The cache is [slots, heads, dim].
slots = rng.permutation(64)[:TOKENS].astype(np.int32)
k1, v1 = (pages_of(x, 1, 64, slots)[:, 0] for x in (keys, values))
by_slots = fovea.KvTables.csr([0, TOKENS], slots, kv_len=[TOKENS])
# [/slots]
results["slots"] = attend(fovea.KvFormat.paged(1), by_slots, (k1, v1))

# [prefix]
# Two formats: 32 tokens that requests share (one row group holds the rows of all of them), and each request's own 8.
prefix = fovea.KvTables.csr([0, 2], np.array([5, 1], np.int32), kv_len=[32], row_indptr=[0, 1])
suffix = fovea.KvTables.csr([0, 1], np.array([3], np.int32), kv_len=[8], kv_pos=[32])
formats = [fovea.KvFormat.paged(PAGE), fovea.KvFormat.paged(PAGE)]
# [/prefix]
results["prefix"] = attend(formats, [prefix, suffix], [(k, v), (k, v)])

for name, result in results.items():
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6, err_msg=name)
print("the same from", ", ".join(results))
