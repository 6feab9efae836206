"""flex_attention: PyTorch's call, computed by a traced variant. Traces, prepared Attentions and plans are found again by what they depend on."""

from __future__ import annotations

import collections
import sys
import threading
from typing import Any, Callable

from .closed import key_of_function
from .masks import mask_mod_of
from .tables import values_of, version_of
from .tracer import torch_if_loaded
from .translate import translate

_DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "e4m3", "float8_e5m2": "e5m2"}
_KEPT_TRACES, _KEPT_PLANS = 256, 8  # a plan holds workspace on the device

_disabled = []  # _attend, which torch.compile must not look into
_lock = threading.Lock()
_traces = collections.OrderedDict()
_attentions = {}
_of_thread = threading.local()


def flex_attention(query: Any, key: Any, value: Any, score_mod: Callable[..., Any] | None = None, block_mask: Any = None, scale: float | None = None,
                   enable_gqa: bool = False, return_lse: bool = False, kernel_options: None = None, *, return_aux: Any = None) -> Any:
    """torch.nn.attention.flex_attention, without torch.compile: score_mod and mask_mod become a variant of Fovea, compiled once.

    query:      [B, Hq, L, E], f32, f16 or bf16. key: [B, Hkv, S, E], value: [B, Hkv, S, Ev]; also fp8. Any strides with innermost 1; batches of 1
                in key and value are shared. On the CPU or a CUDA device.
    score_mod:  (score, b, h, q_idx, kv_idx) -> score, or None.
    block_mask: a BlockMask of PyTorch or of fovea.flex.create_block_mask, or a mask_mod (b, h, q_idx, kv_idx) -> bool, or None.
    scale:      factor on q . k; default 1 / sqrt(E). enable_gqa: Hq may be a multiple of Hkv.
    return_lse: also the log-sum-exp, f32 [B, Hq, L], natural log. return_aux: an AuxRequest of PyTorch; its lse alone.

    Returns the output [B, Hq, L, Ev] in query's dtype, laid out [B, L, Hq, Ev] in memory. Rows that see nothing are 0, their lse -inf. No gradients.

    Raises NotImplementedError for what a variant can't express, with the way out (docs/flex-attention.md), ValueError for shapes, lengths and devices.
    """
    attend = _attend if "torch._dynamo" not in sys.modules else _without_dynamo()
    return attend(query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse, kernel_options, return_aux)


flex_attention._torchdynamo_disable = True  # torch.compile leaves it as it is: a break in the graph


def _without_dynamo():
    if not _disabled:
        _disabled.append(sys.modules["torch._dynamo"].disable(_attend))
    return _disabled[0]


def _attend(query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse, kernel_options, return_aux):
    batch, q_len, kv_len = _check(query, key, value, score_mod, enable_gqa, kernel_options, return_lse, return_aux)
    with_lse = return_lse or (return_aux is not None and return_aux.lse)
    mask_mod = mask_mod_of(block_mask, q_len, kv_len)
    traced = traced_of(score_mod, mask_mod, query.device)
    call = _Call(query, key, value, traced, batch, q_len, kv_len)
    out, lse = call.run(scale, with_lse)
    if return_aux is not None:
        return out, torch_if_loaded().nn.attention.flex_attention.AuxOutput(lse=lse)
    return (out, lse) if return_lse else out


def _check(query, key, value, score_mod, enable_gqa, kernel_options, return_lse, return_aux):
    torch = torch_if_loaded()
    for name, x in (("query", query), ("key", key), ("value", value)):
        if torch is None or not isinstance(x, torch.Tensor):
            raise TypeError(f"flex_attention: {name} is {type(x).__name__}; it must be a tensor of PyTorch")
        if x.dim() != 4:
            raise ValueError(f"flex_attention: {name} has {x.dim()} axes; it must have 4: [batch, heads, tokens, head_dim]")
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"flex_attention: {name} requires grad; fovea computes no gradients: call it under torch.no_grad(), or detach()")
        if x.device != query.device:
            raise ValueError(f"flex_attention: {name} is on {x.device} and query on {query.device}; they must be on one device")
        if str(x.dtype).rpartition(".")[2] not in _DTYPES:
            raise NotImplementedError(f"flex_attention: {name} is {x.dtype}; known are {', '.join(_DTYPES)}")
    if query.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise NotImplementedError(f"flex_attention: query is {query.dtype}; it must be float32, float16 or bfloat16")
    (batch, heads, q_len, dim), (kv_batch, kv_heads, kv_len, key_dim) = query.shape, key.shape
    if value.shape[:3] != key.shape[:3] or key_dim != dim or kv_batch not in (batch, 1):
        raise ValueError(
            f"flex_attention: shapes {list(query.shape)}, {list(key.shape)}, {list(value.shape)} don't go together; they are [B, Hq, L, E], "
            "[B or 1, Hkv, S, E] and [B or 1, Hkv, S, Ev]"
        )
    if heads != kv_heads and (not enable_gqa or kv_heads == 0 or heads % kv_heads != 0):
        raise ValueError(f"flex_attention: query has {heads} heads and key {kv_heads}; they must be equal, or a multiple with enable_gqa=True")
    if score_mod is not None and not callable(score_mod):
        raise TypeError(f"flex_attention: score_mod is {type(score_mod).__name__}; it must be a function (score, b, h, q_idx, kv_idx) -> score, or None")
    if kernel_options is not None:
        raise NotImplementedError("flex_attention: kernel_options are for PyTorch's kernels; leave them out")
    if return_aux is not None and (return_lse or return_aux.max_scores):
        raise NotImplementedError("flex_attention: return_aux gives the lse alone, and not together with return_lse")
    return batch, q_len, kv_len


def traced_of(score_mod, mask_mod, device):
    """The variant of two functions: found by what they depend on where that is all known, else traced."""
    found = [None if f is None else key_of_function(f) for f in (score_mod, mask_mod)]
    if any(f is not None and k is None for f, k in zip((score_mod, mask_mod), found)):
        return translate(score_mod, mask_mod, device)
    key = (device, *(k and k[0] for k in found))
    with _lock:
        traced = _traces.get(key)
    if traced is None:
        traced = translate(score_mod, mask_mod, device)
        named = {id(t) for k in found if k for t in k[1]}
        if traced.repeatable and all(id(c.source) in named for c in traced.captured()):
            with _lock:
                _traces[key] = traced
                while len(_traces) > _KEPT_TRACES:
                    _traces.popitem(last=False)
    return traced


def _power_of_two(number):
    return 1 << max(0, number - 1).bit_length()


class _Layout:
    """How Fovea reads K and V of [batch, heads, tokens, head_dim] without moving them: ragged where batch entries follow each other by tokens, else
    pages, of the most tokens that divide what is there. What can't be read so is copied."""

    def __init__(self, key, value, batch):
        self.k, self.v = key, value
        steps = [self._steps(x) for x in (key, value)]
        if steps[0] is None or steps[0] != steps[1]:
            # Not contiguous(): it leaves a tensor of one token as it is, with whatever stride that axis has.
            dense = torch_if_loaded().contiguous_format
            self.k, self.v = (x.transpose(1, 2).clone(memory_format=dense).transpose(1, 2) for x in (key, value))
            steps = [self._steps(self.k)]
        self.kv_len, self.step = key.shape[2], steps[0]
        self.page_size = 0  # ragged
        if self.step != self.kv_len and batch > 1:
            self.page_size = next(p for p in (64, 32, 16, 1) if self.kv_len % p == 0 and self.step % p == 0)

    @staticmethod
    def _steps(x):
        """Tokens from one batch entry to the next; None where that is no number of tokens."""
        if x.stride(3) != 1 or x.stride(2) < x.shape[3] or x.stride(2) == 0:
            return None
        if x.shape[0] == 1:
            return 0
        return x.stride(0) // x.stride(2) if x.stride(0) % x.stride(2) == 0 and x.stride(0) >= 0 else None

    def caches(self):
        return tuple(self._cache(x) for x in (self.k, self.v))

    def _cache(self, x):
        heads, tokens, dim = x.shape[1:]
        if self.page_size == 0:
            return x.as_strided((x.shape[0] * tokens, heads, dim), (x.stride(2), x.stride(1), 1))
        pages = ((x.shape[0] - 1) * self.step + tokens) // self.page_size
        return x.as_strided((pages, self.page_size, heads, dim), (self.page_size * x.stride(2), x.stride(2), x.stride(1), 1))

    def format(self):
        from ..problem import KvFormat

        return KvFormat.paged(self.page_size) if self.page_size else KvFormat.ragged()

    def tables(self, batch, device):
        from ..problem import KvTables

        torch = torch_if_loaded()
        if self.page_size == 0:
            return KvTables.ragged([i * self.kv_len for i in range(batch + 1)])
        first = torch.arange(batch, dtype=torch.int32, device=device) * (self.step // self.page_size)
        pages = first[:, None] + torch.arange(self.kv_len // self.page_size, dtype=torch.int32, device=device)
        return KvTables.table_2d(pages, [self.kv_len] * batch)


class _Call:
    """One call: what it computes with, and where that is found again."""

    def __init__(self, query, key, value, traced, batch, q_len, kv_len):
        self.query, self.traced = query, traced
        self.batch, self.q_len, self.kv_len = batch, q_len, kv_len
        self.layout = _Layout(key, value, batch)
        builtin = traced.builtin
        self.mask, self.params = (traced.mask, traced.params) if builtin is None else (builtin.mask, builtin.params)

    def run(self, scale, with_lse):
        torch = torch_if_loaded()
        q = self.query
        batch, heads, q_len, _ = q.shape
        out = torch.empty((batch, q_len, heads, self.layout.v.shape[3]), dtype=q.dtype, device=q.device)
        lse = torch.empty((batch, q_len, heads), dtype=torch.float32, device=q.device) if with_lse else None
        if out.numel() == 0 or self.kv_len == 0:
            out.zero_()
            if lse is not None:
                lse.fill_(float("-inf"))
        else:
            plan = self.plan()
            rows = q.transpose(1, 2).reshape(batch * q_len, heads, q.shape[3])
            rows = rows if rows.stride(2) == 1 else rows.contiguous()
            plan.run(rows, self.layout.caches(), out=out.view(-1, *out.shape[2:]), lse=None if lse is None else lse.view(-1, heads), sm_scale=scale,
                     **values_of(self.params, q.device))
        return out.transpose(1, 2), None if lse is None else lse.transpose(1, 2)

    def attention(self):
        q, k, v = self.query, self.layout.k, self.layout.v
        builtin = self.traced.builtin
        variant = self.traced.text if builtin is None else builtin.name
        key = (q.device, variant, q.shape[1], k.shape[1], q.shape[3], v.shape[3], q.dtype, k.dtype, v.dtype, self.layout.page_size,
               _power_of_two(self.batch), _power_of_two(self.q_len), max(1024, _power_of_two(self.kv_len)))
        found = _attentions.get(key)
        if found is None:
            with _lock:
                found = _attentions.get(key)
                if found is None:
                    found = _attentions[key] = self.prepared(*key[-3:])
        return found

    def prepared(self, batch, q_len, kv_len):
        from ..functional import default_engine
        from ..problem import AttentionSpec, Limits

        q, k, v = self.query, self.layout.k, self.layout.v
        q_dtype, k_dtype, v_dtype = (_DTYPES[str(x.dtype).rpartition(".")[2]] for x in (q, k, v))
        spec = AttentionSpec(q.shape[1], k.shape[1], q.shape[3], v.shape[3], q_dtype, k_dtype, v_dtype, q_dtype, variant=self.traced.variant(),
                             formats=self.layout.format())
        limits = Limits(max_requests=batch, max_query_tokens=batch * q_len, max_query_tokens_per_request=q_len, max_kv_tokens_per_request=kv_len)
        return default_engine(str(q.device)).prepare(spec, limits)

    def plan(self):
        """A plan of this thread and stream for these lengths, this mask and these pages."""
        torch = torch_if_loaded()
        attention, q = self.attention(), self.query
        mask = values_of(self.mask, q.device)
        of_mask = tuple(x if not isinstance(x, torch.Tensor) else (x.data_ptr(), tuple(x.shape), x.stride()) for x in mask.values())
        classified = self.traced.opaque and self.traced.builtin is None and q.device.type == "cpu"
        versions = [version_of(c.tensor) for c in self.traced.captured(of_mask=True)] if classified else []
        classified = classified and None not in versions  # classes are as old as the plan: tensors that change unseen have none
        stream = torch._C._cuda_getCurrentRawStream(q.device.index) if q.device.type == "cuda" else 0
        key = (attention, stream, self.batch, self.q_len, self.kv_len, self.layout.step, of_mask, tuple(versions))
        plans = _of_thread.__dict__.setdefault("plans", collections.OrderedDict())
        found = plans.get(key)
        if found is not None:
            plans.move_to_end(key)
            return found
        qo_indptr = [i * self.q_len for i in range(self.batch + 1)]
        batch = {"q_pos": [0] * self.batch}
        tables = self.layout.tables(self.batch, q.device)
        if classified:
            mask["tiles"] = attention.classify_tiles(qo_indptr, tables, mask=dict(mask), heads_alike=not self.traced.mask_looks_at_heads, **batch)
        into = None
        while len(plans) >= _KEPT_PLANS:
            oldest, plan = plans.popitem(last=False)
            into = plan if oldest[:2] == key[:2] else None  # of this Attention and stream: its buffers serve again
        found = plans[key] = attention.plan(qo_indptr, tables, mask=mask or None, into=into, **batch)
        return found
