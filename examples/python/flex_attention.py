"""Functions as PyTorch's FlexAttention takes them, run by Fovea: one call, or traced once for prepare, plan and run."""

import torch

import fovea.flex

# [call]
device = "cuda" if torch.cuda.is_available() else "cpu"
dtype = torch.bfloat16 if device == "cuda" else torch.float32
slopes = torch.exp2(-torch.arange(1, 9, device=device))
document_id = torch.tensor([0] * 40 + [1] * 60, device=device)


def alibi(score, b, h, q_idx, kv_idx):
    return score + slopes[h] * (kv_idx - q_idx)


def causal_in_document(b, h, q_idx, kv_idx):
    return (q_idx >= kv_idx) & (document_id[q_idx] == document_id[kv_idx])


q = torch.randn(2, 8, 100, 64, dtype=dtype, device=device)  # [batch, heads, tokens, head_dim]
k, v = (torch.randn(2, 2, 100, 64, dtype=dtype, device=device) for _ in range(2))
out = fovea.flex_attention(q, k, v, alibi, causal_in_document, enable_gqa=True)
# [/call]

q_idx, kv_idx = torch.arange(100, device=device)[:, None], torch.arange(100, device=device)
kept = causal_in_document(0, 0, q_idx, kv_idx)
bias = (slopes[:, None, None] * (kv_idx - q_idx)).to(dtype).masked_fill(~kept, float("-inf"))
expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=True)
torch.testing.assert_close(out, expected, atol=1e-4 if dtype == torch.float32 else 3e-2, rtol=1e-2)

# [serving]
traced = fovea.flex.trace(alibi, lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx < 4096))
spec = fovea.AttentionSpec(8, 2, 64, q_dtype=dtype, k_dtype=dtype, v_dtype=dtype, o_dtype=dtype, variant=traced.variant(), formats=fovea.KvFormat.paged(16))
attention = fovea.default_engine(device).prepare(spec, fovea.Limits(max_requests=8))

page_table = torch.tensor([[5, 1, 3], [2, 0, 0]], dtype=torch.int32, device=device)  # as docs/python.md has it: 40 and 16 tokens
plan = attention.plan([0, 1, 2], fovea.KvTables.table_2d(page_table, [40, 16]), mask=traced.mask_values())
pages = [torch.randn(8, 16, 2, 64, dtype=dtype, device=device) for _ in range(2)]
decoded = plan.run(torch.randn(2, 8, 64, dtype=dtype, device=device), tuple(pages), **traced.param_values())
# [/serving]
print("out", tuple(out.shape), "decoded", tuple(decoded.shape))
