"""One decode step over a paged cache: prepare, plan, run. On the GPU where there is one."""

# [step]
import torch

import fovea

device = "cuda" if torch.cuda.is_available() else "cpu"
engine = fovea.Engine(device)

# Once per model: what a layer looks like, and how large a batch may get.
spec = fovea.AttentionSpec(num_qo_heads=32, num_kv_heads=8, head_dim_qk=128, variant="causal", formats=fovea.KvFormat.paged(16))
attention = engine.prepare(spec, fovea.Limits(max_requests=64, max_kv_tokens_per_request=4096))
plan = attention.new_plan()  # every buffer; nothing allocates after this

# Once a step: who is in the batch. Request 0 has 40 tokens in pages 5, 1 and 3; request 1 has 16 in page 2.
page_table = torch.tensor([[5, 1, 3], [2, 0, 0]], dtype=torch.int32, device=device)
tables = fovea.KvTables.table_2d(page_table, kv_len=[40, 16])
attention.plan([0, 1, 2], tables, into=plan)

# Once a layer: the tensors.
q = torch.randn(2, 32, 128, dtype=torch.bfloat16, device=device)
k, v = (torch.randn(8, 16, 8, 128, dtype=torch.bfloat16, device=device) for _ in range(2))  # [pages, page_size, heads, head_dim]
out = torch.empty_like(q)
plan.run(q, fovea.KvCache(k, v), out=out)
# [/step]

# Request 1 once more, by PyTorch.
expected = torch.nn.functional.scaled_dot_product_attention(q[1][:, None], k[2].transpose(0, 1), v[2].transpose(0, 1), enable_gqa=True)[:, 0]
torch.testing.assert_close(out[1], expected, rtol=0.02, atol=0.02)
print("out", tuple(out.shape), "as PyTorch has it")
