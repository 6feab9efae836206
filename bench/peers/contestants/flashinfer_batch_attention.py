"""FlashInfer's one-kernel scheduler for any mixture of lengths."""

from peers.flashinfer_shared import FlashInferPeer
from peers.peer import Call

WRAPPERS = []


class FlashInferBatchAttention(FlashInferPeer):
    name = "flashinfer_batch"
    about = "BatchAttention (persistent, balanced over prefill and decode)"

    def refuses(self, workload):
        if workload.kv_dtype != workload.dtype:
            return "16-bit caches only"
        return super().refuses(workload)

    def prepare(self, batch):
        import flashinfer
        import torch

        workload = batch.workload
        if not WRAPPERS:
            WRAPPERS.append(flashinfer.BatchAttention("NHD"))  # has 384 MB of its own
        wrapper = WRAPPERS[0]
        causal = workload.causal and batch.max_qo_len > 1
        wrapper.plan(batch.qo_indptr, batch.page_indptr, batch.page_indices, batch.kv_lens, workload.num_qo_heads, workload.num_kv_heads,
                     workload.head_dim_qk, workload.head_dim_vo, workload.page_size, causal=causal, q_data_type=batch.dtype, kv_data_type=batch.kv_dtype)
        lse = torch.empty(workload.num_tokens, workload.num_qo_heads, dtype=torch.float32, device=batch.device)
        caches = [(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)]
        return Call(lambda copy: wrapper.run(batch.q[copy], caches[copy], out=batch.o, lse=lse)[0])
