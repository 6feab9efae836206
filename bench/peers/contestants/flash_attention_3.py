"""FlashAttention-3 as vLLM builds it: paged, splits chosen by its scheduler kernel, heads of a group packed."""

from peers.peer import Call, Peer
from peers.vllm_files import vllm_file, vllm_version

LIBRARY = "vllm_flash_attn/_vllm_fa3_C.abi3.so"


class FlashAttention3(Peer):
    name = "flash_attention_3"
    about = "vLLM's build of FlashAttention-3, paged, with scheduler metadata made before"

    def missing(self):
        import torch

        path = vllm_file(LIBRARY)
        if torch.cuda.get_device_capability()[0] != 9:
            return "Hopper only"
        torch.ops.load_library(str(path))
        return None

    def version(self):
        return vllm_version()

    def refuses(self, workload):
        if workload.kv_dtype != workload.dtype:
            return "8-bit caches need 8-bit queries"
        return "latent caches need q in two parts" if workload.value_columns else None

    def prepare(self, batch):
        import torch

        ops, workload = torch.ops._vllm_fa3_C, batch.workload
        # One query sees every key: the mask is only work.
        causal = workload.causal and batch.max_qo_len > 1
        no_window, page, rotary = (-1, -1), workload.page_size, (None, None, None)
        metadata = ops.get_scheduler_metadata(
            workload.num_requests, batch.max_qo_len, batch.max_kv_len, workload.num_qo_heads, workload.num_kv_heads, workload.head_dim_qk,
            workload.head_dim_vo, batch.dtype, batch.kv_lens, batch.qo_indptr, None, None, None, None, page, 0, causal, *no_window, False, 0, None, 0)
        caches = [(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)]

        def run(copy):
            k, v = caches[copy]
            return ops.fwd(batch.q[copy], k, v, None, None, None, batch.o, batch.qo_indptr, None, None, None, batch.kv_lens, batch.max_qo_len,
                           batch.max_kv_len, batch.block_table, None, None, *rotary, None, None, None, batch.sm_scale, causal, *no_window, 0.0, True,
                           metadata, 0, None, 0, None, 1, 0, None)[0]

        return Call(run)
