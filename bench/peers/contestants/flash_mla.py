"""FlashMLA's dense decode over latent caches, from its own package or from vLLM's."""

from peers.peer import Call, Peer, package_version
from peers.vllm_files import vllm_file, vllm_version


class FlashMla(Peer):
    name = "flash_mla"
    about = "FlashMLA dense decode, pages of 64"

    def missing(self):
        import importlib.util

        import torch

        if torch.cuda.get_device_capability()[0] != 9:
            return "Hopper only"
        if importlib.util.find_spec("flash_mla"):
            import flash_mla  # noqa: F401
        else:
            torch.ops.load_library(str(vllm_file("_flashmla_C.abi3.so")))
        return None

    def version(self):
        return package_version("flash_mla", "flash-mla") or vllm_version()

    def refuses(self, workload):
        if not workload.value_columns:
            return "latent caches only"
        if workload.page_size != 64:
            return "pages of 64 only"
        return None if len(set(workload.qo_lens)) == 1 else "as many queries for each request"

    def prepare(self, batch):
        import torch

        workload = batch.workload
        queries = workload.qo_lens[0]
        shape = (workload.num_requests, queries, workload.num_qo_heads)
        causal = workload.causal and queries > 1
        out = batch.o.view(*shape, workload.head_dim_vo)
        attend = getattr(torch.ops, "_flashmla_C", None)
        q, caches = [batch.q[copy].view(*shape, workload.head_dim_qk) for copy in range(batch.copies)], [batch.k(copy) for copy in range(batch.copies)]

        def call(copy, plan, splits):
            return attend.dense_decode_fwd(q[copy], caches[copy], workload.head_dim_vo, batch.kv_lens, batch.block_table, batch.sm_scale, causal, plan,
                                           splits, out)

        _, _, plan, splits = call(0, None, None)  # the first call plans
        return Call(lambda copy: call(copy, plan, splits)[0], output=lambda result: result.reshape(batch.o.shape))
