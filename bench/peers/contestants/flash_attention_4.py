"""FlashAttention-4: CuTe DSL kernels, compiled at the first call."""

from peers.peer import Call, Peer, package_version


class FlashAttention4(Peer):
    name = "flash_attention_4"
    about = "flash_attn.cute, paged"

    def missing(self):
        from flash_attn.cute import interface  # noqa: F401

        return None

    def version(self):
        return package_version("flash-attn-4")

    def refuses(self, workload):
        if workload.kv_dtype != workload.dtype:
            return "16-bit caches only"
        return "latent caches need q in two parts" if workload.value_columns else None

    def prepare(self, batch):
        from flash_attn.cute.interface import _flash_attn_fwd as attend  # the public function takes no `out` in every release

        causal = batch.workload.causal and batch.max_qo_len > 1
        caches = [(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)]

        def run(copy):
            k, v = caches[copy]
            return attend(batch.q[copy], k, v, cu_seqlens_q=batch.qo_indptr, seqused_k=batch.kv_lens, max_seqlen_q=batch.max_qo_len,
                          max_seqlen_k=batch.max_kv_len, page_table=batch.block_table, causal=causal, num_splits=0, out=batch.o)[0]

        return Call(run)
