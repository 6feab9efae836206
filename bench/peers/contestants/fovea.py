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

        workload, shared = batch.workload, batch.workload.prefix_tokens > 0
        page = fovea.KvFormat.paged(workload.page_size)
        spec = fovea.AttentionSpec(
            workload.num_qo_heads, workload.num_kv_heads, workload.head_dim_qk, head_dim_vo=workload.head_dim_vo, q_dtype=workload.dtype,
            k_dtype=workload.kv_dtype, v_dtype=workload.kv_dtype, o_dtype=workload.dtype, variant="causal" if workload.causal else "full",
            formats=(page, page) if shared else page)
        limits = fovea.Limits(max_requests=workload.num_requests, max_query_tokens=workload.num_tokens, max_query_tokens_per_request=batch.max_qo_len,
                              max_kv_tokens_per_request=batch.max_kv_len)
        attention = fovea.default_engine(batch.device.type).prepare(spec, limits)
        plan = attention.plan(batch.qo_indptr_list, prefix_tables(fovea, batch) if shared else
                              fovea.KvTables.csr(batch.pages.indptr, batch.page_indices, batch.last_page_len_list))
        caches = [fovea.KvCache(batch.k(copy), batch.v(copy)) for copy in range(batch.copies)]
        if shared:
            caches = [[cache, cache] for cache in caches]
        queries = list(batch.q)
        return Call(lambda copy: plan.run(queries[copy], caches[copy], out=batch.o), note="prefix read once" if shared else "")


def prefix_tables(fovea, batch):
    """Two formats over the same pages: prefixes, each read once for all its requests, and what is the requests' own."""
    workload, lists = batch.workload, batch.pages.lists
    shared = workload.prefix_tokens // workload.page_size
    firsts = range(0, workload.num_requests, workload.prefix_requests)
    prefixes = [lists[first][:shared] for first in firsts]
    rows = [batch.qo_indptr_list[first] for first in firsts] + [workload.num_tokens]
    own = [pages[shared:] for pages in lists]
    full = [workload.page_size] * len(prefixes)
    last = [batch.last_page_len_list[request] if pages else 1 for request, pages in enumerate(own)]
    return [csr(fovea, batch, prefixes, full, row_indptr=rows), csr(fovea, batch, own, last)]


def csr(fovea, batch, lists, last_page_len, **more):
    indptr = [0]
    for pages in lists:
        indptr.append(indptr[-1] + len(pages))
    return fovea.KvTables.csr(indptr, batch.int32([page for pages in lists for page in pages]), last_page_len, **more)
