"""fovea::run as torch ops, for torch.compile: `Plan.run` calls them while a graph is traced, and never otherwise (an op costs 2 us more than the call).

An op names its plan by a string, which stays the same when the plan is planned anew: nothing is traced again. Ops write into `out` and `lse`, which they
are given, and have no gradient. Defined with Library.define: torch.library.custom_op costs 10 us a call.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from ._library import id_of
from ._library import run as fovea_run
from .attention import LSE_BASE2, LSE_WITH_EXTRA, NO_MASK, STATES, objects_by_name
from .kv_cache import KvCache, cache_of
from .problem import mask_arguments

_library = torch.library.Library("fovea", "DEF")
_library.define("run(str plan, Tensor q, Tensor k, Tensor v, Tensor(a!) out, Tensor(b!)? lse, float? sm_scale) -> ()")
# caches: k and v (and scales that are tensors) of each format. names: of params, first those of `tensors`, then of `floats`, then of `ints`.
_library.define("run_with(str plan, Tensor q, Tensor[] caches, str[] layouts, float[] scales, Tensor(a!) out, Tensor(b!)? lse, float? sm_scale, "
                "float q_scale, int flags, int mask_group, str[] mask_names, Tensor[] mask_tensors, float[] mask_floats, int[] mask_ints, str[] names, "
                "Tensor[] tensors, float[] floats, int[] ints) -> ()")


def _plan(name: str):
    plan = objects_by_name.get(name)
    if plan is None:
        raise RuntimeError(f"fovea::run: no plan is named '{name}'; the plan that was traced is gone: keep it as long as what was compiled with it")
    return plan


def _run(plan: str, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Optional[Tensor], sm_scale: Optional[float]) -> None:
    # As Plan._run for one cache; the dispatcher resolves negated views.
    fovea_run(_plan(plan), None, q, out, lse, sm_scale, 1.0, 0, 0, 1, k, v, 0, None, None, *NO_MASK)


def _named(names, tensors, floats, ints) -> dict:
    return dict(zip(names, (*tensors, *floats, *ints)))


def _run_with(plan, q, caches, layouts, scales, out, lse, sm_scale, q_scale, flags, mask_group, mask_names, mask_tensors, mask_floats, mask_ints, names,
              tensors, floats, ints) -> None:
    rest = iter(caches)
    numbers = iter(scales)
    kv: list = []
    for layout in layouts:  # "nhd", then for k_scale and v_scale each: "-" none, "f" a number, "t" a tensor
        k, v = next(rest), next(rest)
        scale = {"-": lambda: None, "f": lambda: next(numbers), "t": lambda: next(rest)}
        kv += KvCache(k, v, layout=layout[:3], k_scale=scale[layout[3]](), v_scale=scale[layout[4]]())._arguments
    mask = _named(mask_names, mask_tensors, mask_floats, mask_ints)
    mask_part = mask_arguments(mask, id_of) if mask else NO_MASK
    params = (x for name, value in _named(names, tensors, floats, ints).items() for x in (id_of(name), value))
    fovea_run(_plan(plan), None, q, out, lse, sm_scale, q_scale, flags, mask_group, len(layouts), *kv, *mask_part, *params)


for _key in ("CPU", "CUDA"):
    _library.impl("run", _run, _key)
    _library.impl("run_with", _run_with, _key)
torch.library.register_fake("fovea::run", lambda *arguments: None, lib=_library)
torch.library.register_fake("fovea::run_with", lambda *arguments: None, lib=_library)

run = torch.ops.fovea.run.default
run_with = torch.ops.fovea.run_with.default


def _sorted_by_kind(values) -> tuple:
    """names, tensors, floats, ints of a dict of parameters."""
    tensors = {n: v for n, v in values.items() if isinstance(v, Tensor)}
    floats = {n: v for n, v in values.items() if isinstance(v, float)}
    ints = {n: int(v) for n, v in values.items() if n not in tensors and n not in floats}
    return [*tensors, *floats, *ints], list(tensors.values()), list(floats.values()), list(ints.values())


def _kind_of(scale) -> str:
    return "-" if scale is None else "t" if isinstance(scale, Tensor) else "f"


def run_in_graph(plan, q, kv, out, lse, sm_scale, q_scale, states, lse_base2, lse_with_extra, mask_group, mask, stream, params):
    """`Plan.run` while torch.compile traces it."""
    if stream is not None:
        raise ValueError("run: stream= has no meaning inside torch.compile; what is compiled runs on the current stream")
    spec = plan.attention.spec
    if out is None:
        dtype = torch.float32 if spec.o_dtype == "f32" else torch.float16 if spec.o_dtype == "f16" else torch.bfloat16
        out = torch.empty((q.shape[0], spec.num_qo_heads, spec.head_dim_vo or spec.head_dim_qk), dtype=dtype, device=q.device)
    if lse is True:
        lse = torch.empty((q.shape[0], spec.num_qo_heads), dtype=torch.float32, device=q.device)
    flags = (STATES if states else 0) | (LSE_BASE2 if lse_base2 else 0) | (LSE_WITH_EXTRA if lse_with_extra else 0)
    caches = [cache_of(cache) for cache in (kv if isinstance(kv, list) else [kv])]
    if torch.is_grad_enabled():  # as outside of a graph: nothing would come back
        for name, x in [("q", q), *((f"kv.{name}", getattr(cache, name)) for cache in caches for name in ("k", "v"))]:
            if x.requires_grad:
                raise ValueError(f"run: {name} requires grad; fovea computes no gradients: call it under torch.no_grad(), or detach()")
    first = caches[0]
    if len(caches) == 1 and first.layout == "nhd" and first.k_scale is None and first.v_scale is None and q_scale == 1.0 and flags == 0 \
            and mask_group == 0 and mask is None and not params:
        run(plan.name, q, first.k, first.v, out, lse, sm_scale)
    else:
        tensors, layouts, scales = [], [], []
        for cache in caches:
            tensors += [cache.k, cache.v]
            layouts.append(cache.layout + _kind_of(cache.k_scale) + _kind_of(cache.v_scale))
            for scale in (cache.k_scale, cache.v_scale):
                if isinstance(scale, Tensor):
                    tensors.append(scale)
                elif scale is not None:
                    scales.append(float(scale))
        run_with(plan.name, q, tensors, layouts, scales, out, lse, sm_scale, q_scale, flags, mask_group, *_sorted_by_kind(mask or {}), *_sorted_by_kind(params))
    return out if lse is None else (out, lse)
