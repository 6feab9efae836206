"""Attention once more, in NumPy and double precision, from lists of requests; and how requests become the tensors of each layout."""

import os

import numpy as np

import fovea

try:
    import torch
except ImportError:
    torch = None

DEVICE = os.environ.get("FOVEA_TEST_DEVICE", "cpu")
TENSORS = (["numpy"] if DEVICE == "cpu" else []) + (["torch"] if torch is not None else [])

# Rounding of one stored element. Outputs are averages of values of magnitude about 1.
ROUNDING = {"f32": 2.0**-22, "f16": 2.0**-11, "bf16": 2.0**-8, "e4m3": 2.0**-4, "e5m2": 2.0**-3}


def tensor(array, dtype, library):
    """`array` as a tensor of `library` on the device of the tests."""
    if library == "numpy":
        return np.ascontiguousarray(array, dtype={"f32": "f4", "f16": "f2", "i32": "i4", "i64": "i8", "u8": "u1"}[dtype])
    of_torch = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2,
                "i32": torch.int32, "i64": torch.int64, "u8": torch.uint8}[dtype]
    return torch.from_numpy(np.ascontiguousarray(array)).to(of_torch).to(DEVICE)


def host(array, library):
    """int32 lengths on the host."""
    array = np.asarray(array, dtype=np.int32)
    return array if library == "numpy" else torch.from_numpy(array)


def values_of(stored):
    """A stored tensor as doubles."""
    if isinstance(stored, np.ndarray):
        return stored.astype(np.float64)
    return stored.detach().to("cpu").to(torch.float64).numpy()


def attend(q, k, v, *, scale=None, sees=None, logit=None, extra=None):
    """One request. q [n, heads, d], k and v [m, kv_heads, d] -> o [n, heads, d_vo], lse [n, heads] (natural log).

    sees(q_pos, kv_pos) -> bool [n, m], default causal, bottom-right; logit(logits [heads, n, m], q_pos, kv_pos); extra [heads]: a logit without a value.
    """
    n, heads, d = q.shape
    m, kv_heads = k.shape[:2]
    q_pos, kv_pos = (m - n + np.arange(n))[:, None], np.arange(m)[None, :]
    repeat = heads // kv_heads
    k, v = np.repeat(k, repeat, axis=1), np.repeat(v, repeat, axis=1)
    logits = np.einsum("qhd,khd->hqk", q, k) * (d**-0.5 if scale is None else scale)
    if logit is not None:
        logits = logit(logits, q_pos, kv_pos)
    seen = np.broadcast_to(kv_pos <= q_pos if sees is None else sees(q_pos, kv_pos), (n, m))
    logits = np.where(seen, logits, -np.inf)
    top = np.maximum(np.max(logits, axis=2, initial=-1e30), -1e30)
    weights = np.exp(logits - top[..., None])
    total = weights.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        lse = top + np.log(total)
        divisor = total if extra is None else total + np.exp(extra[:, None] - top)
        o = np.einsum("hqk,khd->qhd", weights / np.where(divisor > 0, divisor, 1)[..., None], v)
    o[~seen.any(axis=1)] = 0
    return o, np.where(total > 0, lse, -np.inf).T


class Batch:
    """Random requests [(qo_len, kv_len)] stored in one of the layouts."""

    LAYOUTS = ("csr", "csr_kv_len", "csr_hnd", "table_2d", "table_rows", "ragged", "slots", "interleaved", "interleaved_hnd", "halves", "v_in_k")

    def __init__(self, layout, library, lengths, *, heads=4, kv_heads=2, dim=64, page_size=16, q="f32", kv="f32", seed=0, lengths_on="host"):
        rng = np.random.default_rng(seed)
        self.layout, self.lengths, self.heads, self.kv_heads, self.dim = layout, lengths, heads, kv_heads, dim
        self.page_size = 1 if layout == "slots" else page_size
        self.dim_vo = dim // 2 if layout == "v_in_k" else dim
        self.q_dtype, self.kv_dtype, self.library = q, kv, library
        on = (lambda a: host(a, library)) if lengths_on == "host" else (lambda a: tensor(np.asarray(a, np.int32), "i32", library))
        qo_len, kv_len = np.array(lengths, dtype=np.int64).reshape(-1, 2).T
        self.qo_begin = np.concatenate([[0], np.cumsum(qo_len)])
        self.qo_indptr = on(self.qo_begin)
        self.kv_len = on(kv_len)
        self.q = tensor(rng.standard_normal((self.qo_begin[-1], heads, dim), dtype=np.float32), q, library)
        pages = -(-kv_len // self.page_size)
        num_pages = int(pages.sum()) + 3
        ids = rng.permutation(num_pages)[: pages.sum()].astype(np.int32)
        indptr = np.concatenate([[0], np.cumsum(pages)])
        self.cache, self.kv = self._store(rng, num_pages, ids, indptr, kv_len)
        self.tables = self._tables(on, ids, indptr, kv_len, pages)

    def _store(self, rng, num_pages, ids, indptr, kv_len):
        """The cache in its layout, and each request's K and V as doubles."""
        p, h, d = self.page_size, self.kv_heads, self.dim
        make = lambda *shape: tensor(rng.standard_normal(shape, dtype=np.float32), self.kv_dtype, self.library)
        if self.layout == "ragged":
            begin = np.concatenate([[0], np.cumsum(kv_len)])
            cache = fovea.KvCache(make(begin[-1], h, d), make(begin[-1], h, d))
            k, v = values_of(cache.k), values_of(cache.v)
            return cache, [(k[a:b], v[a:b]) for a, b in zip(begin, begin[1:])]
        if self.layout == "slots":
            cache = fovea.KvCache(make(num_pages, h, d), make(num_pages, h, d))
        elif self.layout == "csr_hnd":
            cache = fovea.KvCache(make(num_pages, h, p, d), make(num_pages, h, p, d), layout="hnd")
        elif self.layout == "interleaved":
            cache = fovea.KvCache.interleaved(make(num_pages, 2, p, h, d))
        elif self.layout == "interleaved_hnd":
            cache = fovea.KvCache.interleaved(make(num_pages, 2, h, p, d), layout="hnd")
        elif self.layout == "halves":
            cache = fovea.KvCache.halves(make(num_pages, p, h, 2 * d), d)
        elif self.layout == "v_in_k":
            cache = fovea.KvCache.v_in_k(make(num_pages, p, h, d), self.dim_vo)
        else:
            cache = fovea.KvCache(make(num_pages, p, h, d), make(num_pages, p, h, d))
        k, v = values_of(cache.k), values_of(cache.v)
        if cache.layout == "hnd":
            k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
        k, v = k.reshape(num_pages, p, h, -1), v.reshape(num_pages, p, h, -1)
        tokens = lambda x, r: x[ids[indptr[r]:indptr[r + 1]]].reshape(-1, h, x.shape[-1])[: kv_len[r]]
        return cache, [(tokens(k, r), tokens(v, r)) for r in range(len(kv_len))]

    def _tables(self, on, ids, indptr, kv_len, pages):
        if self.layout == "ragged":
            return fovea.KvTables.ragged(on(np.concatenate([[0], np.cumsum(kv_len)])))
        if self.layout in ("table_2d", "table_rows"):
            rows = np.arange(len(pages)) if self.layout == "table_2d" else np.arange(len(pages))[::-1] + 1
            table = np.full((len(pages) + 1, max(1, pages.max(initial=0))), 2**30, dtype=np.int32)  # beyond a request's pages: never read
            for r in range(len(pages)):
                table[rows[r], : pages[r]] = ids[indptr[r]:indptr[r + 1]]
            table = tensor(table, "i32", self.library)
            return fovea.KvTables.table_2d(table, self.kv_len, table_rows=None if self.layout == "table_2d" else on(rows))
        indices = tensor(ids if len(ids) else np.zeros(1, np.int32), "i32", self.library)
        if self.layout == "csr_kv_len":
            return fovea.KvTables.csr(on(indptr), indices, kv_len=self.kv_len)
        last = np.where(kv_len > 0, (kv_len - 1) % self.page_size + 1, 1)
        return fovea.KvTables.csr(on(indptr), indices, on(last))

    def spec(self, variant="causal", **fields):
        formats = fovea.KvFormat.ragged() if self.layout == "ragged" else fovea.KvFormat.paged(self.page_size)
        out = self.q_dtype if self.q_dtype in ("f32", "f16", "bf16") else "bf16"
        return fovea.AttentionSpec(self.heads, self.kv_heads, self.dim, self.dim_vo, q_dtype=self.q_dtype, k_dtype=self.kv_dtype, v_dtype=self.kv_dtype,
                                   o_dtype=out, variant=variant, formats=formats, **fields)

    def limits(self, **fields):
        return fovea.Limits(**{"max_requests": 16, "max_query_tokens": 512, "max_kv_tokens_per_request": 4096, **fields})

    def expected(self, **rule):
        q = values_of(self.q)
        parts = [attend(q[a:b], k, v, **{n: (f(r) if n == "of_request" else f) for n, f in rule.items()})
                 for r, (a, b, (k, v)) in enumerate(zip(self.qo_begin, self.qo_begin[1:], self.kv))]
        return np.concatenate([o for o, _ in parts]), np.concatenate([lse for _, lse in parts])

    def check(self, o, lse=None, **rule):
        expected_o, expected_lse = self.expected(**rule)
        # Keys and values are what is stored; kernels round weights and the output, and with 8-bit queries or keys work in 16 bits.
        rounding = max(ROUNDING[x] for x in ("f32" if self.q_dtype == self.kv_dtype == "f32" else "f16" if self.q_dtype == "f16" else "bf16",))
        np.testing.assert_allclose(values_of(o), expected_o, rtol=8 * rounding, atol=8 * rounding)
        if lse is not None:
            np.testing.assert_allclose(values_of(lse), expected_lse, rtol=8 * rounding, atol=8 * rounding)
