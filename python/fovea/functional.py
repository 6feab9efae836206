"""attend(): attention in one call, without engine, spec or plan of one's own. Prepares on first use, and says so."""

from __future__ import annotations

import logging
import threading
import time
from typing import Sequence, Union

from .attention import Attention
from .engine import Engine
from .kv_cache import cache_of
from .problem import AttentionSpec, KvFormat, KvTables, Limits, MaskLike, dtype_name
from .variants import Variant, VariantLike

_log = logging.getLogger("fovea")
_lock = threading.Lock()
_engines: dict[str, Engine] = {}
_prepared: dict[tuple, Attention] = {}

_SMALLEST_LIMIT = 64  # requests and query tokens: below it, no two batches need another Attention
_LONGEST = 1 << 20    # kv tokens a request, where the cache is so large


def default_engine(device: str = "cpu") -> Engine:
    """The engine that `attend` uses on "cpu", "cuda" or "cuda:1": made on first use, one for the process."""
    backend, _, index = str(device).partition(":")
    key = f"{backend}:{int(index or 0)}"
    with _lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = Engine(backend, device_id=int(index or 0))
        return engine


def _device_of(tensor) -> str:
    device = getattr(tensor, "device", "cpu")  # torch, NumPy 2, CuPy and JAX each have their own
    kind = getattr(device, "type", None)
    if kind is not None:
        return kind if device.index is None else f"{kind}:{device.index}"
    if hasattr(tensor, "__dlpack_device__"):
        code, index = tensor.__dlpack_device__()
        return f"cuda:{index}" if int(code) in (2, 13) else "cpu"
    raise TypeError(f"attend: q is {type(tensor).__name__}; it must be a tensor")


def _power_of_two(number: int) -> int:
    return max(_SMALLEST_LIMIT, 1 << max(0, number - 1).bit_length())


def _format_of(tables: KvTables, cache) -> KvFormat:
    if tables.page_indices is None and tables.page_table is None:
        return KvFormat.ragged()
    if len(cache.k.shape) == 3:
        return KvFormat.paged(1)
    return KvFormat.paged(cache.k.shape[2 if cache.layout == "hnd" else 1])


def attend(q, kv, qo_indptr, tables: Union[KvTables, Sequence[KvTables]], *, variant: VariantLike = "causal", mask: MaskLike = None, out=None, lse=None,
           kv_len=None, q_pos=None, kv_quant: str = "none", o_dtype=None, stream=None, **run_arguments):
    """Attention of a batch in one call, on the device where q is.

    q:   [tokens, num_qo_heads, head_dim_qk]. kv: a KvCache or a tuple (k, v); a list of them, one per format, with as many `tables`.
    qo_indptr, tables, kv_len, q_pos, mask: as in `Attention.plan`. out, lse, stream and the rest: as in `Plan.run`.
    o_dtype: default: that of out, else of q where that is f32, f16 or bf16, else bf16.

    Shapes, dtypes and the variant make the spec; the first call with one prepares (and compiles what is missing; logged to "fovea"), later ones find it.
    Limits are powers of two above the batch's: a larger batch prepares once more. Returns out, or (out, lse).
    """
    if not hasattr(q, "shape"):
        raise TypeError(f"attend: q is {type(q).__name__}; it must be a tensor")
    if len(q.shape) != 3:
        raise ValueError(f"attend: q has {len(q.shape)} axes; it needs [tokens, num_qo_heads, head_dim_qk]")
    if not hasattr(qo_indptr, "__len__"):
        raise TypeError(f"attend: qo_indptr is {type(qo_indptr).__name__}; it must be a tensor or a list of [requests + 1] integers")
    caches = [cache_of(cache) for cache in (kv if isinstance(kv, list) else [kv])]
    all_tables = [tables] if isinstance(tables, KvTables) else list(tables) if isinstance(tables, (list, tuple)) else [tables]
    for one in all_tables:
        if not isinstance(one, KvTables):
            raise TypeError(f"attend: tables is {type(one).__name__}; it must be a fovea.KvTables, or a list of them, one per format")
    if len(caches) != len(all_tables):
        raise ValueError(f"attend: kv has {len(caches)} caches and tables has {len(all_tables)}; each format has one of each")
    k, v = caches[0].k, caches[0].v
    heads_axis = 1 if len(k.shape) == 4 and caches[0].layout == "hnd" else -2
    q_name = dtype_name(q.dtype, "q.dtype")
    if o_dtype is None:
        o_dtype = out.dtype if out is not None else q_name if q_name in ("f32", "f16", "bf16") else "bf16"
    spec = AttentionSpec(
        num_qo_heads=q.shape[1], num_kv_heads=k.shape[heads_axis], head_dim_qk=q.shape[2], head_dim_vo=v.shape[-1], q_dtype=q_name, k_dtype=k.dtype,
        v_dtype=v.dtype, o_dtype=o_dtype, kv_quant=kv_quant, variant=Variant.of(variant),
        formats=tuple(_format_of(t, c) for t, c in zip(all_tables, caches)))
    slots = max(c.k.shape[0] * f.page_size for c, f in zip(caches, spec.formats))
    limits = Limits(max_requests=_power_of_two(len(qo_indptr) - 1), max_query_tokens=_power_of_two(q.shape[0]),
                    max_kv_tokens_per_request=0 if slots <= 131072 else _LONGEST)
    attention = _attention(_device_of(q), spec, limits)
    return attention.attend(q, kv, qo_indptr, tables, kv_len=kv_len, q_pos=q_pos, mask=mask, out=out, lse=lse, stream=stream, **run_arguments)


def _attention(device: str, spec: AttentionSpec, limits: Limits) -> Attention:
    key = (device, spec, limits)
    found = _prepared.get(key)
    if found is None:
        engine = default_engine(device)
        with _lock:
            found = _prepared.get(key)
            if found is None:
                begin = time.perf_counter()
                found = engine.prepare(spec, limits)
                _log.info("attend: prepared %r in %.2f s", found, time.perf_counter() - begin)
                _prepared[key] = found
    return found
