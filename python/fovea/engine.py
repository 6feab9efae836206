"""Engine: a device and what runs on it."""

from __future__ import annotations

from typing import Sequence

from . import _library
from .attention import Attention
from .kv_cache import KvCache, cache_of
from .problem import AttentionSpec, KvTables, Limits


class Engine:
    """A device with its threads, kernels and caches. All methods may be called from several threads.

    backend:     "cpu", "cuda", or "reference" (double precision, the specification in code; slow).
    device_id:   cuda: which GPU, counted as the driver does.
    num_threads: cpu: at most this many at a time; 0: all that the process may use. Never changes a result.
    isa:         cpu: "avx2", "avx512", "avx512_bf16"; default: the fastest this machine runs.
    """

    __slots__ = ("backend", "device", "_object", "_device_id")

    def __init__(self, backend: str = "cpu", *, device_id: int = 0, num_threads: int = 0, isa: str = ""):
        _library.load()
        self._object = _library.engine(backend, device_id, num_threads, isa)
        self.backend = backend
        self.device: str = _library.device(self._object)  # "cpu", "cuda:0": where its tensors must be
        self._device_id = int(self.device.partition(":")[2]) if self.device.startswith("cuda") else None
        if self._device_id is not None:
            _library.ask_for_streams()

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self  # copies of a model share it

    def __reduce__(self):
        raise TypeError("a fovea.Engine can't be pickled; make one in each process")

    def prepare(self, spec: AttentionSpec, limits: Limits = Limits(), *, policy: str = "throughput", fixed_split: int = 0, num_workers: int = 0,
                max_workspace_bytes: int = -1) -> Attention:
        """Once per model: checks the problem, chooses kernels, compiles what is missing, sizes every buffer. The only slow call.

        policy: "throughput" balances a batch over all workers; with "batch_invariant" a request's output bits depend on that request alone;
                "fixed_split" cuts KV every fixed_split tokens.
        num_workers: 0: the backend's default. max_workspace_bytes: of partial states; less means fewer splits; -1: as much as helps.

        Raises ValueError (the problem breaks a rule), NotImplementedError (no kernel takes it: every kernel's refusal is in the text), RuntimeError (a
        variant does not compile).
        """
        if not isinstance(spec, AttentionSpec):
            raise TypeError(f"prepare: spec is {type(spec).__name__}; it must be a fovea.AttentionSpec")
        if not isinstance(limits, Limits):
            raise TypeError(f"prepare: limits is {type(limits).__name__}; it must be a fovea.Limits")
        prepared = _library.prepare(self._object, *spec._arguments(), *limits._arguments(), policy, fixed_split, num_workers, max_workspace_bytes)
        return Attention(self, spec, prepared)

    def merge_states(self, states: Sequence[tuple], *, out, lse, stream=None):
        """(out, lse) = the merge of states (o, lse) with the same rows and heads. Empty states (0, -inf) merge.

        o, out: [tokens, heads, head_dim]; lse: f32 [tokens, heads], natural log. out and lse may be one of the inputs. Returns (out, lse).
        """
        states = list(states)
        for state in states:
            if not isinstance(state, (tuple, list)) or len(state) != 2:
                raise TypeError(f"merge_states: a state is {type(state).__name__}; it must be a tuple (o, lse)")
        named = {"out": out, "lse": lse, **{f"states[{i}].{name}": x for i, state in enumerate(states) for name, x in zip(("o", "lse"), state)}}
        _library.refuse("merge_states", named)
        try:
            _library.merge_states(self._object, _library.stream_of(stream, self._device_id), out, lse, *(tensor for state in states for tensor in state))
        except BufferError as error:
            _library.refuse_buffers("merge_states", error, named)
        return out, lse

    def append_kv(self, k, v, cache: KvCache, *, kv_quant: str = "none", slot_mapping=None, append_indptr=None, tables: KvTables | None = None,
                  stream=None) -> None:
        """Writes new tokens into a cache, by slot or by request. Nothing is written when an argument is refused.

        k, v:  [tokens, num_kv_heads, head_dim], f32, f16 or bf16.
        cache: written; quantised with its k_scale and v_scale when kv_quant says so ("token": the scales are outputs).
        slot_mapping: i32 or i64 [tokens], page * page_size + offset; negative: the token is skipped.
        append_indptr: i32 [requests + 1] new tokens of each request, which become the last of its kv_len; with `tables`.
        """
        cache = cache_of(cache)
        if tables is not None and not isinstance(tables, KvTables):
            raise TypeError(f"append_kv: tables is {type(tables).__name__}; it must be a fovea.KvTables")
        _library.refuse("append_kv", {"k": k, "v": v, "cache.k": cache.k, "cache.v": cache.v})
        try:
            _library.append_kv(self._object, _library.stream_of(stream, self._device_id), k, v, kv_quant, *cache._arguments, slot_mapping, append_indptr,
                               *(() if tables is None else tables))
        except BufferError as error:
            _library.refuse_buffers("append_kv", error, {"k": k, "v": v, "cache.k": cache.k, "cache.v": cache.v, "slot_mapping": slot_mapping})

    def synchronise(self, stream=None) -> None:
        """Returns when the stream (default: torch's current one) has done all it was given."""
        _library.synchronise(self._object, _library.current_stream(self._device_id) if stream is None else _library.stream_of(stream, self._device_id))

    def status(self) -> list[str]:
        """What planners on the device found wrong with the batches they were given, in words, one entry a plan: the first since the last call."""
        return [str(line) for line in _library.status(self._object)]

    def variants(self) -> dict[str, dict]:
        """The variants compiled into the library: what `plan` takes as mask, what `run` takes as params, how well intervals answer for the mask."""
        return {str(name): {"masks": [str(m) for m in masks], "params": [str(p) for p in params], "interval": str(interval)}
                for name, masks, params, interval in _library.variants(self._object)}

    def compiled(self) -> list[dict]:
        """What this engine had compiled at run time, or found compiled, in order."""
        names = ("variant", "target", "compiler", "cached", "seconds", "cpu_seconds", "path")
        return [dict(zip(names, (str(x) if isinstance(x, str) else x for x in record))) for record in _library.compiled(self._object)]

    def describe(self) -> str:
        """Backend, device, instruction set, threads: what a bug report needs."""
        return str(_library.describe(self._object))

    def __repr__(self):
        return f"<fovea.Engine {self.describe()}>"
