"""Attention: one prepared layer shape. Plan: who computes what in one step. The hot calls, `Attention.plan` and `Plan.run`."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Optional, Sequence, Union

from . import _library
from .kv_cache import KvCache, cache_of
from .problem import AttentionSpec, KvTables, Limits, MaskLike, TileClasses, mask_arguments

STATES, LSE_BASE2, LSE_WITH_EXTRA = 1, 2, 4  # RunFlag of python/binding/attention.cc
NO_MASK = (-2,)
_DEFAULT_MASKS = (0,)

_numbers = itertools.count()
objects_by_name: dict[str, Any] = {}  # of living plans: what the ops of torch_ops.py run


class Plan:
    """The buffers of one step's plan, at fixed addresses. Made by `Attention.new_plan` or `Attention.plan`; used by one thread at a time.

    name: how torch.compile's graphs refer to the plan: fixed for its life, so that planning anew recompiles nothing.
    """

    __slots__ = ("attention", "name", "_object", "_kept", "_device_id", "__weakref__")

    def __init__(self, attention: "Attention"):
        self.attention = attention
        self.name = f"plan{next(_numbers)}"
        self._device_id = attention._device_id
        self._object = _library.new_plan(attention._object)
        self._kept: Any = None  # what the plan keeps the addresses of
        objects_by_name[self.name] = self._object

    def __del__(self):
        objects_by_name.pop(getattr(self, "name", None), None)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        raise TypeError("a fovea.Plan can't be copied; make another with attention.new_plan()")

    def __reduce__(self):
        raise TypeError("a fovea.Plan can't be pickled; make another with attention.new_plan()")

    def run(self, q, kv, *, out=None, lse=None, sm_scale: Optional[float] = None, q_scale: float = 1.0, states: bool = False, lse_base2: bool = False,
            lse_with_extra: bool = False, mask_group: int = 0, mask: MaskLike = None, stream=None, **params):
        """Computes attention of the planned batch: once a layer. Launches and returns; allocates nothing when `out` is given.

        q:        [tokens, num_qo_heads, head_dim_qk], any strides with innermost 1.
        kv:       a KvCache or a tuple (k, v); a list of those where the spec has several formats.
        out:      [tokens, num_qo_heads, head_dim_vo] in the spec's o_dtype; must not overlap q, K or V. None: a new tensor.
        lse:      f32 [tokens, num_qo_heads], written where given; True: a new tensor.
        sm_scale: factor on q . k; default 1 / sqrt(head_dim_qk). q_scale dequantises q.
        states:   write (out, lse) of the KV given, before sink and output transform: `Engine.merge_states` continues from here.
        lse_base2, lse_with_extra: log2 instead of the natural log; with the extra logit (attention sink) counted.
        mask_group, mask: which of the plan's masks; its values, where it was planned as "any".
        stream:   a torch or CuPy stream, an object with __cuda_stream__, or an address; default: torch's current stream.
        params:   the variant's parameters, by name: numbers, or tensors on the engine's device.

        Returns out, or (out, lse) where lse is given. Rows beyond the batch's last token are neither read nor written.

        Raises ValueError for what breaks a rule (shape, dtype, device, strides, a tensor that requires grad, a fake tensor), TypeError for an argument
        that is no tensor or number, RuntimeError when the device failed. After an error nothing was written.
        """
        if _library.is_compiling():
            from . import torch_ops

            return torch_ops.run_in_graph(self, q, kv, out, lse, sm_scale, q_scale, states, lse_base2, lse_with_extra, mask_group, mask, stream, params)
        if out is None or lse is True:
            out, lse = new_outputs(self.attention.spec, q, out, lse)
        flags = (states and STATES) | (lse_base2 and LSE_BASE2) | (lse_with_extra and LSE_WITH_EXTRA)
        if type(kv) is KvCache and stream is None and mask is None and not (params or flags or mask_group) and q_scale == 1.0:
            # Perf: nearly every layer's path. A tensor costs 0.16 us, a number 0.02 (H200's host): the cache was read by its first run.
            if type(q) is type(out) is _library.Tensor and not (q.is_neg() or out.is_neg()) and not (
                    _library.is_grad_enabled() and (q.requires_grad or out.requires_grad)) and (lse is None or _is_plain(lse)):
                try:
                    _library.run_layer(self._object, None, q, out, lse, sm_scale, kv._object or kv._read())
                except RuntimeError:
                    _library.refuse_unreachable("run", named_tensors(q, out, lse, kv._arguments))
                    raise
                return out if lse is None else (out, lse)
        self._run(q, kv, out, lse, sm_scale, q_scale, flags, mask_group, mask, stream, params)
        return out if lse is None else (out, lse)

    def _run(self, q, kv, out, lse, sm_scale, q_scale, flags, mask_group, mask, stream, params):
        """`run` with its outputs made."""
        num_caches = 1
        if type(kv) is KvCache:
            caches = kv._arguments
        elif type(kv) is tuple and len(kv) == 2:
            caches = (kv[0], kv[1], 0, None, None)
        elif type(kv) is list:
            num_caches = len(kv)
            caches = [value for cache in kv for value in cache_of(cache)._arguments]
        else:
            caches = cache_of(kv)._arguments
        Tensor = _library.Tensor
        if Tensor is not None:
            k, v = caches[0], caches[1]
            if not (type(q) is type(out) is type(k) is type(v) is Tensor) or q.is_neg() or k.is_neg() or v.is_neg() or out.is_neg() or params or (
                    _library.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad or out.requires_grad)) or num_caches != 1 or (
                    lse is not None and not _is_plain(lse)):
                _library.refuse("run", {**named_tensors(q, out, lse, caches), **params})
        if stream is not None:
            stream = _library.stream_of(stream, self._device_id)
        rest = NO_MASK
        if mask is not None:
            rest = mask_arguments(mask, _library.id_of)
        if params:
            rest = [*rest, *(x for name, value in params.items() for x in (_library.id_of(name), value))]
        try:
            _library.run(self._object, stream, q, out, lse, sm_scale, q_scale, flags, mask_group, num_caches, *caches, *rest)
        except BufferError as error:
            _library.refuse_buffers("run", error, {**named_tensors(q, out, lse, caches), **params})
        except RuntimeError:
            _library.refuse_unreachable("run", {**named_tensors(q, out, lse, caches), **params})
            raise

    def check_pages(self, num_pages: Union[int, Sequence[int]], *, mask_group: int = 0) -> None:
        """Raises ValueError naming the first page id outside [0, num_pages) that a run of this plan would read. Reads all page ids; waits for the device.

        num_pages: of the one format, or a list with each format's.
        """
        _library.check_pages(self._object, mask_group, *(num_pages if isinstance(num_pages, (list, tuple)) else (num_pages,)))

    def count_tiles(self, mask_group: int = 0) -> dict[str, int]:
        """How many tiles of the plan its mask leaves "empty", "mixed" and "full". Walks them all: for tools."""
        return dict(zip(("empty", "mixed", "full"), _library.count_tiles(self._object, mask_group)))

    @property
    def generation(self) -> int:
        """Counts successful plans; 0: not planned yet."""
        return _library.generation(self._object)

    def view(self, mask_group: int = 0) -> str:
        """The plan as a table: who computes what."""
        return _library.view_plan(self._object, mask_group)

    def __repr__(self):
        return f"<fovea.Plan {self.name} of {self.attention!r}, planned {self.generation} times>"


def _is_plain(tensor) -> bool:
    """A tensor of PyTorch that `refuse` has nothing against."""
    return type(tensor) is _library.Tensor and not (tensor.is_neg() or tensor.requires_grad)


def named_tensors(q, out, lse, cache_arguments) -> dict:
    """A run's tensors by the names that its errors use."""
    fields = ("k", "v", "layout", "k_scale", "v_scale")
    caches = [cache_arguments[i:i + 5] for i in range(0, len(cache_arguments), 5)]
    owners = ["kv"] if len(caches) == 1 else [f"kv[{i}]" for i in range(len(caches))]
    return {"q": q, "out": out, "lse": lse, **{f"{o}.{f}": x for o, cache in zip(owners, caches) for f, x in zip(fields, cache)}}


def named_tables(tables) -> dict:
    formats = (tables,) if type(tables) is KvTables else tables
    return {f"kv[{i}].{name}": getattr(format, name) for i, format in enumerate(formats) for name in KvTables._fields}


def named_masks(mask) -> dict:
    masks = mask if isinstance(mask, (list, tuple)) else (mask,)
    return {name: value for one in masks if isinstance(one, dict) for name, value in one.items()}


def new_outputs(spec: AttentionSpec, q, out, lse):
    """out and lse for a run that was given none."""
    heads, head_dim = spec.num_qo_heads, spec.head_dim_vo or spec.head_dim_qk
    torch = _library.torch
    if torch is not None and isinstance(q, torch.Tensor):
        tokens = q.shape[0] if q.shape else 0
        if out is None:
            dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[spec.o_dtype]
            out = torch.empty((tokens, heads, head_dim), dtype=dtype, device=q.device)
        return out, torch.empty((tokens, heads), dtype=torch.float32, device=q.device) if lse is True else lse
    import numpy

    if not isinstance(q, numpy.ndarray):
        raise TypeError(f"run: out (and lse) must be given where q is a {type(q).__name__}; new ones are made for torch and NumPy")
    tokens = q.shape[0] if q.shape else 0
    if out is None:
        if spec.o_dtype not in ("f32", "f16"):
            raise ValueError(f"run: o_dtype is {spec.o_dtype}, which NumPy does not have; give out=, or ask for f32")
        out = numpy.empty((tokens, heads, head_dim), dtype={"f32": "float32", "f16": "float16"}[spec.o_dtype])
    return out, numpy.empty((tokens, heads), dtype="float32") if lse is True else lse


class Attention:
    """One prepared layer shape. Made by `Engine.prepare`. Its methods may be called from several threads, each with a Plan of its own."""

    __slots__ = ("engine", "spec", "_object", "_device_id", "_own")

    def __init__(self, engine, spec: AttentionSpec, prepared):
        self.engine = engine
        self.spec = spec
        self._object = prepared
        self._device_id = engine._device_id
        self._own = threading.local()  # the plan of attend()

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self  # nothing in it changes: copies of a model share it

    def __reduce__(self):
        raise TypeError("a fovea.Attention can't be pickled; prepare it again from its spec and limits, which can")

    @property
    def limits(self) -> Limits:
        """With every default resolved."""
        return Limits(*_library.limits(self._object))

    @property
    def workspace_bytes(self) -> int:
        """What a plan allocates."""
        return _library.workspace_bytes(self._object)

    def new_plan(self) -> Plan:
        """Allocates a plan's buffers, all of them: nothing after this allocates. Raises RuntimeError when there is no memory for them."""
        return Plan(self)

    def plan(self, qo_indptr, tables: Union[KvTables, Sequence[KvTables]], *, kv_len=None, q_pos=None, num_requests=None, max_query_tokens: int = 0,
             mask: Union[MaskLike, list[MaskLike], tuple[MaskLike, ...]] = None, into: Optional[Plan] = None, stream=None) -> Plan:
        """Schedules a batch: once a step. Reads lengths, no page ids.

        The integers below and those of `tables` are int32, all on the host (lists of integers too) or all on the engine's device. On the device it is a
        launch, which may be captured into a CUDA graph and then plans anew with every replay; bad values are told by `Engine.status`.

        qo_indptr: [requests + 1], first query token of each request.
        tables:    KvTables; a list of them where the spec has several formats.
        kv_len:    [requests], tokens of the whole request; default: the sum over its formats.
        q_pos:     [requests], position of the first query token; default kv_len - qo_len.
        num_requests: [1] on the device, how many of qo_indptr's requests there are; default: all.
        max_query_tokens: with lengths on the device, what qo_indptr may end at; default: the limit.
        mask:      values of the variant's mask, as a dict; "any": plan the whole KV, give the mask to run; a list: several mask groups.
        into:      the plan to write; default: a new one. Its page ids and mask tensors are kept alive until it is planned again.
        stream:    as in `Plan.run`.

        Returns the plan. Raises ValueError with the values that break a rule; the plan is then what it was before.
        """
        if into is None:
            into = Plan(self)
        elif not isinstance(into, Plan):
            raise TypeError(f"plan: into is {type(into).__name__}; it must be a fovea.Plan")
        elif into.attention is not self:
            raise ValueError(f"plan: into belongs to another Attention ({into.attention!r}); a plan is used with the Attention that made it")
        # Asked for here: a batch's only tensor may be on the host (ragged), and then nobody else says what stream is current.
        stream = _library.current_stream(self._device_id) if stream is None else _library.stream_of(stream, self._device_id)
        table_arguments: Sequence
        masks: Sequence
        if type(tables) is KvTables:
            num_formats, table_arguments = 1, tables
        elif isinstance(tables, (list, tuple)) and all(type(format) is KvTables for format in tables):
            num_formats, table_arguments = len(tables), [value for format in tables for value in format]
        else:
            raise TypeError(f"plan: tables is {type(tables).__name__}; it must be a fovea.KvTables, or a list of them, one per format of the spec")
        if mask is None:
            masks = _DEFAULT_MASKS
        elif isinstance(mask, (list, tuple)):
            masks = [len(mask), *(value for one in mask for value in mask_arguments(one, _library.id_of))]
        else:
            masks = (1, *mask_arguments(mask, _library.id_of))
        if mask is not None:
            _library.refuse("plan", named_masks(mask))
        try:
            _library.plan(into._object, stream, qo_indptr, kv_len, q_pos, num_requests, max_query_tokens, num_formats, *table_arguments, *masks)
        except BufferError as error:
            _library.refuse_buffers("plan", error, {"qo_indptr": qo_indptr, "kv_len": kv_len, "q_pos": q_pos, **named_tables(tables), **named_masks(mask)})
        except RuntimeError:
            _library.refuse_unreachable("plan", {"qo_indptr": qo_indptr, "kv_len": kv_len, "q_pos": q_pos, **named_tables(tables)})
            raise
        into._kept = (table_arguments, masks)  # not `tables` and `mask`: the caller's list or dict may change
        return into

    def attend(self, q, kv, qo_indptr, tables, *, kv_len=None, q_pos=None, num_requests=None, mask: MaskLike = None, out=None, lse=None, stream=None,
               **run_arguments):
        """plan() and run() in one call, with a plan of this thread's own: for callers that have no place for one. Arguments and errors as there."""
        plan = getattr(self._own, "plan", None)
        if plan is None:
            plan = self._own.plan = Plan(self)
        self.plan(qo_indptr, tables, kv_len=kv_len, q_pos=q_pos, num_requests=num_requests, mask=mask, into=plan, stream=stream)
        return plan.run(q, kv, out=out, lse=lse, stream=stream, **run_arguments)

    def classify_tiles(self, qo_indptr, tables, *, mask: MaskLike = None, kv_len=None, q_pos=None, tile_q: int = 64, tile_kv: int = 64,
                       heads_alike: bool = False) -> TileClasses:
        """Asks the mask about every tile of a batch, once: for opaque masks that stay the same for long enough. Give the result to `plan` as
        ``mask={..., "tiles": classes}``. Host lengths only; raises NotImplementedError where the host can't read the mask's tables."""
        import numpy

        formats = (tables,) if isinstance(tables, KvTables) else tuple(tables)
        classes, indptr, per_head = _library.classify_tiles(
            self._object, tile_q, tile_kv, heads_alike, qo_indptr, kv_len, q_pos, None, 0, len(formats),
            *(value for format in formats for value in format), 1, *mask_arguments(mask, _library.id_of))
        return TileClasses(numpy.frombuffer(classes, dtype=numpy.uint8).copy(), numpy.array(list(indptr), dtype=numpy.int32), tile_q, tile_kv, bool(per_head))

    def explain(self) -> str:
        """Which kernels, why, and every other kernel's refusal; sizes of buffers."""
        return _library.explain(self._object)

    def __repr__(self):
        s = self.spec
        return f"<fovea.Attention {s.variant.name}, {s.num_qo_heads} / {s.num_kv_heads} heads of {s.head_dim_qk}, on {self.engine.device}>"
