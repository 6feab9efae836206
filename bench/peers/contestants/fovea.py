"""Fovea through its Python package: lengths planned on the host, page tables on the device."""

from peers.peer import Call, Peer


class Fovea(Peer):
    name = "fovea"
    about = "this project"
    devices = ("cuda", "cpu")

    def missing(self):
        import fovea

        fovea.default_engine("cpu")  # loads the library, which says what it misses
        return None

    def version(self):
        import fovea

        return fovea.__version__

    def prepare(self, batch):
        import fovea

        workload = batch.workload
        spec = fovea.AttentionSpec(
            workload.num_qo_heads, workload.num_kv_heads, workload.head_dim_qk, head_dim_vo=workload.head_dim_vo, q_dtype=workload.dtype,
            k_dtype=workload.kv_dtype, v_dtype=workload.kv_dtype, o_dtype=workload.dtype, variant="causal" if workload.causal else "full",
            formats=fovea.KvFormat.paged(workload.page_size))
        limits = fovea.Limits(max_requests=workload.num_requests, max_query_tokens=workload.num_tokens, max_query_tokens_per_request=batch.max_qo_len,
                              max_kv_tokens_per_request=batch.max_kv_len)
        attention = fovea.default_engine(batch.device.type).prepare(spec, limits)
        tables = fovea.KvTables.csr(batch.pages.indptr, batch.page_indices, batch.last_page_len_list)
        plan = attention.plan(batch.qo_indptr_list, tables)
        caches = [fovea.KvCache(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)]
        queries = list(batch.q)
        return Call(lambda copy: plan.run(queries[copy], caches[copy], out=batch.o))
