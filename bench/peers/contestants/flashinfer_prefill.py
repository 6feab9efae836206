"""FlashInfer's paged prefill wrapper with its FlashAttention-2 kernels."""

from peers.flashinfer_shared import FlashInferPeer, scales, scratch_memory
from peers.peer import Call


class FlashInferPrefill(FlashInferPeer):
    name = "flashinfer_fa2"
    about = "BatchPrefillWithPagedKVCacheWrapper, backend fa2"
    backend = "fa2"

    def refuses(self, workload):
        if workload.kind == "decode":
            return "decode has a wrapper of its own"
        return super().refuses(workload)

    def prepare(self, batch):
        import flashinfer

        workload = batch.workload
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(scratch_memory(), "NHD", backend=self.backend)
        wrapper.plan(batch.qo_indptr, batch.page_indptr, batch.page_indices, batch.last_page_len, workload.num_qo_heads, workload.num_kv_heads,
                     workload.head_dim_qk, workload.page_size, head_dim_vo=workload.head_dim_vo, causal=workload.causal, q_data_type=batch.dtype,
                     kv_data_type=batch.kv_dtype)
        caches, more = [(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)], scales(workload)
        return Call(lambda copy: wrapper.run(batch.q[copy], caches[copy], out=batch.o, **more))
