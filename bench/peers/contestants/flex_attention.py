"""PyTorch's FlexAttention: the mask is a function, compiled with Inductor on a GPU, eager on a CPU."""

from peers.peer import Call, Peer, package_version


class FlexAttention(Peer):
    name = "flex_attention"
    about = "torch.nn.attention.flex_attention with a causal mask_mod, dense caches"
    devices = ("cuda", "cpu")

    def missing(self):
        from torch.nn.attention.flex_attention import flex_attention  # noqa: F401

        return None

    def version(self):
        return package_version("torch")

    def refuses(self, workload):
        if workload.kv_dtype != workload.dtype:
            return "q, K and V have one dtype"
        return workload.dense_refusal

    def prepare(self, batch):
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        workload = batch.workload
        requests, qo_len, kv_len = workload.num_requests, workload.qo_lens[0], workload.kv_lens[0]
        offset = kv_len - qo_len

        def causal(request, head, query, key):
            return key <= query + offset

        mask = None
        if workload.causal and qo_len > 1:
            mask = create_block_mask(causal, None, None, qo_len, kv_len, device=str(batch.device))
        attend = torch.compile(flex_attention, dynamic=False) if batch.device.type == "cuda" else flex_attention
        tensors = []
        for copy in range(batch.copies):
            q = batch.q[copy].view(requests, qo_len, workload.num_qo_heads, workload.head_dim_qk).transpose(1, 2)
            tensors.append((q, batch.dense(batch.k(copy)), batch.dense(batch.v(copy))))
        gqa = workload.group_size > 1

        def run(copy):
            q, k, v = tensors[copy]
            return attend(q, k, v, block_mask=mask, enable_gqa=gqa)

        return Call(run, layout="dense", output=lambda result: result.transpose(1, 2).reshape(batch.o.shape))
