"""FlashInfer's decode wrapper on tensor cores, planned as servers do under CUDA graphs."""

from peers.flashinfer_shared import FlashInferPeer, decode_only, scales, scratch_memory
from peers.peer import Call


class FlashInferDecode(FlashInferPeer):
    name = "flashinfer_decode"
    about = "BatchDecodeWithPagedKVCacheWrapper, tensor cores, graph plan"
    tensor_cores = True

    def refuses(self, workload):
        if workload.head_dim_qk != workload.head_dim_vo:
            return "head_dim_qk and head_dim_vo are one number"
        return decode_only(workload) or super().refuses(workload)

    def prepare(self, batch):
        import flashinfer
        import torch

        workload = batch.workload
        buffers = {"paged_kv_indptr_buffer": torch.empty_like(batch.page_indptr), "paged_kv_indices_buffer": torch.empty_like(batch.page_indices),
                   "paged_kv_last_page_len_buffer": torch.empty_like(batch.last_page_len)}
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(scratch_memory(), "NHD", use_cuda_graph=True, use_tensor_cores=self.tensor_cores,
                                                                backend="fa2" if self.tensor_cores else "auto", **buffers)
        wrapper.plan(batch.page_indptr, batch.page_indices, batch.last_page_len, workload.num_qo_heads, workload.num_kv_heads, workload.head_dim_qk,
                     workload.page_size, q_data_type=batch.dtype, kv_data_type=batch.kv_dtype)
        caches, more = [(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)], scales(workload)
        return Call(lambda copy: wrapper.run(batch.q[copy], caches[copy], out=batch.o, **more))
