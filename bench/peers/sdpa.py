"""What the peers of torch.nn.functional.scaled_dot_product_attention share: dense caches, equal lengths."""

from peers.peer import Call


def sdpa_refusal(workload, chunks=True):
    """`chunks`: can the backend place the causal mask at the end of the keys where there are fewer queries?"""
    if workload.kv_dtype != workload.dtype:
        return "q, K and V have one dtype"
    if not chunks and workload.causal and 1 < workload.qo_lens[0] < workload.kv_lens[0]:
        return "its causal mask begins at the first key"
    return workload.dense_refusal


def prepare_sdpa(batch, backend):
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.attention.bias import causal_lower_right

    workload = batch.workload
    requests, qo_len, kv_len = workload.num_requests, workload.qo_lens[0], workload.kv_lens[0]
    tensors = []
    for copy in range(batch.copies):
        q = batch.q[copy].view(requests, qo_len, workload.num_qo_heads, workload.head_dim_qk).transpose(1, 2)
        tensors.append((q, batch.dense(batch.k(copy)), batch.dense(batch.v(copy))))
    square = workload.causal and qo_len == kv_len
    mask = causal_lower_right(qo_len, kv_len) if workload.causal and 1 < qo_len < kv_len else None
    chosen, attend = getattr(SDPBackend, backend), torch.nn.functional.scaled_dot_product_attention
    gqa = workload.group_size > 1

    def run(copy):
        q, k, v = tensors[copy]
        with sdpa_kernel(chosen):
            return attend(q, k, v, attn_mask=mask, is_causal=square and qo_len > 1, enable_gqa=gqa)

    return Call(run, layout="dense", output=lambda result: result.transpose(1, 2).reshape(batch.o.shape))
