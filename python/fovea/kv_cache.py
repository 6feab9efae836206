"""KvCache: the tensors of one layer's K and V, whatever their layout."""

from __future__ import annotations

from typing import Any

from . import _library

_LAYOUTS = {"nhd": 0, "hnd": 1}


class KvCache:
    """K and V of one format in one layer. Any strides with innermost 1; K and V are independent and may lie in one allocation.

    k: [pages, page_size, num_kv_heads, head_dim_qk] ("nhd"), [pages, num_kv_heads, page_size, head_dim_qk] ("hnd"), or [slots, num_kv_heads, head_dim_qk]
       for page size 1 and for ragged K and V.
    v: the same with head_dim_vo.
    k_scale, v_scale: what dequantises them: a number, or an f32 tensor as AttentionSpec.kv_quant says. None: 1.

    Make it once and keep it: addresses, shapes and strides are read by the first run, and later runs cost less than with a tuple (k, v).
    """

    __slots__ = ("k", "v", "layout", "k_scale", "v_scale", "_arguments", "_object")

    def __init__(self, k, v, *, layout: str = "nhd", k_scale=None, v_scale=None):
        if layout not in _LAYOUTS:
            if not isinstance(layout, str) or layout.lower() not in _LAYOUTS:
                raise ValueError(f"KvCache: layout is {layout!r}; it must be 'nhd' or 'hnd'")
            layout = layout.lower()
        code = _LAYOUTS[layout]
        # _arguments: as cache_from() in python/binding/readers.cc reads them; _object: see _read().
        for name, value in zip(self.__slots__, (k, v, layout, k_scale, v_scale, (k, v, code, k_scale, v_scale), None)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        raise AttributeError(f"KvCache.{name} can't be set: make another KvCache")

    def __reduce__(self):
        return _remade, (self.k, self.v, self.layout, self.k_scale, self.v_scale)

    def _read(self):
        """The cache as the library keeps it, made by the first run."""
        if _library.Tensor is not None:
            _library.refuse("run", {f"kv.{name}": getattr(self, name) for name in ("k", "v", "k_scale", "v_scale")})
        try:
            object.__setattr__(self, "_object", _library.kv_cache(*self._arguments))
        except BufferError as error:
            _library.refuse_buffers("run", error, {"kv.k": self.k, "kv.v": self.v})
        return self._object

    @staticmethod
    def interleaved(kv, *, layout: str = "nhd", k_scale=None, v_scale=None) -> "KvCache":
        """kv: [pages, 2, page_size, heads, dim] (nhd) or [pages, 2, heads, page_size, dim] (hnd): K and V alternate page by page."""
        if len(kv.shape) != 5:
            raise ValueError(f"KvCache.interleaved: kv has {len(kv.shape)} axes; it needs 5: [pages, 2, page_size, heads, head_dim], or heads before page_size")
        if kv.shape[1] != 2:
            raise ValueError(f"KvCache.interleaved: axis 1 of kv has extent {kv.shape[1]}; it needs 2, K and V")
        return KvCache(kv[:, 0], kv[:, 1], layout=layout, k_scale=k_scale, v_scale=v_scale)

    @staticmethod
    def halves(kv, head_dim_qk: int, *, layout: str = "nhd", k_scale=None, v_scale=None) -> "KvCache":
        """K and V are the two parts of the last axis of kv, cut at head_dim_qk (vLLM: [pages, page_size, heads, 2 * dim])."""
        if not 0 < head_dim_qk < kv.shape[-1]:
            raise ValueError(f"KvCache.halves: head_dim_qk {head_dim_qk} does not cut the last axis of kv, extent {kv.shape[-1]}, in two")
        return KvCache(kv[..., :head_dim_qk], kv[..., head_dim_qk:], layout=layout, k_scale=k_scale, v_scale=v_scale)

    @staticmethod
    def v_in_k(k, head_dim_vo: int, *, layout: str = "nhd", k_scale=None, v_scale=None) -> "KvCache":
        """V is the first head_dim_vo columns of K, as in multi-head latent attention."""
        if not 0 < head_dim_vo <= k.shape[-1]:
            raise ValueError(f"KvCache.v_in_k: head_dim_vo {head_dim_vo} is not within the last axis of k, extent {k.shape[-1]}")
        return KvCache(k, k[..., :head_dim_vo], layout=layout, k_scale=k_scale, v_scale=v_scale)


def _remade(k, v, layout, k_scale, v_scale):
    """What copies and pickles of a cache are made by."""
    return KvCache(k, v, layout=layout, k_scale=k_scale, v_scale=v_scale)


def cache_of(kv: Any) -> KvCache:
    """A KvCache, or a tuple (k, v)."""
    if isinstance(kv, KvCache):
        return kv
    if isinstance(kv, tuple) and len(kv) == 2:
        return KvCache(kv[0], kv[1])
    raise TypeError(f"kv is {type(kv).__name__}; it must be a fovea.KvCache, a tuple (k, v), or a list of those, one per format of the spec")
