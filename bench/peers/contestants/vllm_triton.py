"""vLLM's Triton attention: one kernel for prefill and decode, with vLLM's own choice of splitting."""

import enum
import importlib.util
import sys
import types

from peers.peer import Call, Peer
from peers.vllm_files import vllm_file, vllm_folder, vllm_version

OPS = "v1/attention/ops"
SEGMENTS = 16
LOADED = []


class VllmTriton(Peer):
    name = "vllm_triton"
    about = "vLLM's unified_attention"

    def missing(self):
        import triton  # noqa: F401

        vllm_file(f"{OPS}/triton_unified_attention.py")
        load()
        return None

    def version(self):
        import triton

        return f"{vllm_version()}, triton {triton.__version__}"

    def refuses(self, workload):
        if not workload.causal:
            return "causal only"
        return "K and V have the same columns" if workload.head_dim_qk != workload.head_dim_vo or workload.value_columns else None

    def prepare(self, batch):
        import torch

        attend, modes, workload = *load(), batch.workload
        threshold = split_threshold(workload.num_kv_heads)
        padded = 1 << (workload.head_dim_qk - 1).bit_length()
        rows = (threshold, workload.num_qo_heads, SEGMENTS)
        partial = torch.empty(*rows, padded, dtype=torch.float32, device=batch.device)
        tops, sums = (torch.empty(rows, dtype=torch.float32, device=batch.device) for _ in range(2))
        scale, mode = None, modes.NONE
        if workload.kv_dtype != workload.dtype:
            scale, mode = torch.ones(1, dtype=torch.float32, device=batch.device), modes.FP8_PER_TENSOR
        caches = [(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)]

        def run(copy):
            k, v = caches[copy]
            attend(batch.q[copy], k, v, batch.o, batch.qo_indptr, batch.max_qo_len, batch.kv_lens, batch.max_kv_len, batch.sm_scale, True, (-1, -1),
                   batch.block_table, 0.0, None, scale, scale, seq_threshold_3D=threshold, num_par_softmax_segments=SEGMENTS,
                   softmax_segm_output=partial, softmax_segm_max=tops, softmax_segm_expsum=sums, kv_quant_mode=mode)
            return batch.o

        return Call(run)


def split_threshold(kv_heads):
    """Requests up to which vLLM splits: 128 / kv heads, moved to the nearest batch that it captures as a graph."""
    captured = [1, 2, 4, *range(8, 257, 8)]
    return min(captured, key=lambda batch: abs(batch - 128 // kv_heads))


def load():
    """(unified_attention, its KVQuantMode): from the installed vLLM, or from its two files with stand-ins for what they import."""
    if not LOADED:
        _, whole = vllm_folder()
        if whole:
            from vllm.v1.attention.ops.triton_unified_attention import unified_attention
            from vllm.v1.kv_cache_interface import KVQuantMode

            LOADED.extend((unified_attention, KVQuantMode))
        else:
            LOADED.extend(load_alone())
    return LOADED


class Silent:
    """A logger and a platform: every method exists and says no."""

    def __getattr__(self, name):
        return lambda *arguments, **keywords: False

    def fp8_dtype(self):
        import torch

        return torch.float8_e4m3fn

    def is_device_capability_family(self, capability):
        import torch

        return torch.cuda.get_device_capability()[0] * 10 == capability // 10 * 10


def stand_in(name, **contents):
    module = types.ModuleType(name)
    module.__path__ = []
    vars(module).update(contents)
    sys.modules[name] = module
    return module


def load_alone():
    import triton

    quant = enum.IntEnum("KVQuantMode", {"NONE": 0, "FP8_PER_TENSOR": 1, "INT8_PER_TOKEN_HEAD": 2, "FP8_PER_TOKEN_HEAD": 3, "INT4_PER_TOKEN_HEAD": 4})
    envs = stand_in("vllm.envs", VLLM_BATCH_INVARIANT=False)
    stand_in("vllm", envs=envs)
    for name in ("vllm.v1", "vllm.v1.attention", "vllm.v1.attention.ops"):
        stand_in(name)
    stand_in("vllm.logger", init_logger=lambda name: Silent())
    stand_in("vllm.platforms", current_platform=Silent())
    stand_in("vllm.triton_utils", tl=triton.language, triton=triton)
    stand_in("vllm.v1.kv_cache_interface", KVQuantMode=quant)
    for name in ("triton_attention_helpers", "triton_unified_attention"):  # the second imports the first
        spec = importlib.util.spec_from_file_location(f"vllm.v1.attention.ops.{name}", vllm_file(f"{OPS}/{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return module.unified_attention, quant
