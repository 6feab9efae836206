"""TensorRT-LLM's decode kernels in FlashInfer: XQA on Hopper, trtllm-gen on Blackwell."""

from peers.flashinfer_shared import FlashInferPeer, decode_only, scratch_memory
from peers.peer import Call


class FlashInferXqa(FlashInferPeer):
    name = "flashinfer_xqa"
    about = "xqa_batch_decode_with_kv_cache; trtllm_batch_decode_with_kv_cache on Blackwell"

    def refuses(self, workload):
        if workload.page_size < 16:
            return "pages of 16 and more"
        return decode_only(workload) or super().refuses(workload)

    def prepare(self, batch):
        import torch
        from flashinfer import decode

        workload = batch.workload
        caches = [(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)]
        memory = scratch_memory("xqa", zeroed=True)
        if torch.cuda.get_device_capability()[0] >= 10:
            attend, lengths, note = decode.trtllm_batch_decode_with_kv_cache, batch.kv_lens, "trtllm-gen"
        else:
            attend, lengths, note = decode.xqa_batch_decode_with_kv_cache, batch.kv_lens.view(torch.uint32), ""

        def run(copy):
            return attend(batch.q[copy], caches[copy], memory, batch.block_table, lengths, batch.max_kv_len, bmm1_scale=batch.sm_scale, bmm2_scale=1.0,
                          kv_layout="NHD", out=batch.o)

        return Call(run, note=note)
