"""The functions that PyTorch's FlexAttention is shown with, by name: (score_mod, mask_mod) for a batch, heads and lengths. Needs PyTorch."""

import torch
from torch.nn.attention.flex_attention import and_masks, or_masks


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def sliding_window(window):
    def sliding_window_mask(b, h, q_idx, kv_idx):
        return (q_idx >= kv_idx) & (q_idx - kv_idx <= window)

    return sliding_window_mask


def prefix_lm(prefix_length):
    def prefix_mask(b, h, q_idx, kv_idx):
        return kv_idx < prefix_length[b]

    return or_masks(prefix_mask, causal)


def document(document_id):
    def document_mask(b, h, q_idx, kv_idx):
        return document_id[q_idx] == document_id[kv_idx]

    return document_mask


def natten(canvas_w, canvas_h, kernel_w, kernel_h):
    def get_x_y(idx):
        return idx // canvas_w, idx % canvas_w

    def natten_mask_mod(b, h, q_idx, kv_idx):
        q_x, q_y = get_x_y(q_idx)
        kv_x, kv_y = get_x_y(kv_idx)
        kernel_x = q_x.clamp(kernel_w // 2, (canvas_w - 1) - kernel_w // 2)
        kernel_y = q_y.clamp(kernel_h // 2, (canvas_h - 1) - kernel_h // 2)
        hori_mask = (kernel_x - kv_x).abs() <= kernel_w // 2
        vert_mask = (kernel_y - kv_y).abs() <= kernel_h // 2
        return hori_mask & vert_mask

    return natten_mask_mod


def alibi(num_heads):
    def alibi_mod(score, b, h, q_idx, kv_idx):
        scale = torch.exp2(-((h + 1) * 8.0 / num_heads))
        return score + (kv_idx - q_idx) * scale

    return alibi_mod


def alibi_slopes(slopes):
    def alibi_mod(score, b, h, q_idx, kv_idx):
        return score + slopes[h] * (kv_idx - q_idx)

    return alibi_mod


def soft_cap(cap):
    def tanh_softcap(score, b, h, q_idx, kv_idx):
        return cap * torch.tanh(score / cap)

    return tanh_softcap


def tanh_biased(bias):
    def tanh_bias(score, b, h, q_idx, kv_idx):
        return torch.tanh(score + bias[b, h, q_idx] * 0.5) * 2 - torch.tanh((q_idx - kv_idx) / 16)

    return tanh_bias


def relative_position(table):
    reach = table.shape[-1] // 2

    def relative_position_bias(score, b, h, q_idx, kv_idx):
        return score + table[h, torch.clamp(q_idx - kv_idx, -reach, reach) + reach]

    return relative_position_bias


def relative_buckets(table, buckets):
    """T5: buckets that grow with the logarithm of the distance; no bucket begins at a whole distance, where a rounding would decide."""

    def t5_bias(score, b, h, q_idx, kv_idx):
        distance = torch.maximum(q_idx - kv_idx, torch.zeros_like(q_idx))
        far = 8 + (torch.log(distance.float() / 8) / 2.7725 * 8).to(torch.int32)
        bucket = torch.where(distance < 8, distance, torch.minimum(far, torch.full_like(far, buckets - 1)))
        return score + table[bucket, h]

    return t5_bias


def causal_by_score(score, b, h, q_idx, kv_idx):
    return torch.where(q_idx >= kv_idx, score, -float("inf"))


def additive_window(window):
    def additive(score, b, h, q_idx, kv_idx):
        inside = (q_idx - kv_idx).abs() <= window
        return score * 0.75 + torch.where(inside, 0, float("-inf"))

    return additive


def head_dependent(b, h, q_idx, kv_idx):
    return torch.where(h % 2 == 0, q_idx >= kv_idx, (kv_idx - q_idx).abs() < 20)


def checkerboard(b, h, q_idx, kv_idx):
    return ((q_idx ^ kv_idx) & 1 == 0) | (q_idx == kv_idx)


def shifted(offset):
    def decode(b, h, q_idx, kv_idx):
        return causal(b, h, q_idx + offset, kv_idx)

    return decode


def table_mask(table):
    def from_table(b, h, q_idx, kv_idx):
        return table[b, q_idx, kv_idx]

    return from_table


def chunk_or_window(b, h, q_idx, kv_idx):
    near = (q_idx >= kv_idx) & (q_idx - kv_idx <= 9)
    return near | (q_idx // 16 == kv_idx // 16)


def rounded(score, b, h, q_idx, kv_idx):
    return score * 0.5 + torch.round((q_idx - kv_idx) * 0.5) / 8 + torch.floor(kv_idx / 4) / 16


def dilated(b, h, q_idx, kv_idx):
    return (q_idx >= kv_idx) & ((q_idx - kv_idx < 16) | ((q_idx - kv_idx) % 4 == 0))


def standard_cases(batch, heads, q_len, kv_len, device="cpu"):
    """name -> (score_mod, mask_mod). Captured tensors are on `device`."""
    numbers = torch.Generator().manual_seed(11)

    def normal(*shape):
        return torch.randn(*shape, generator=numbers).to(device)

    most = max(q_len, kv_len)
    documents = torch.sort(torch.randint(0, 5, (most,), generator=numbers)).values.to(device)
    prefix = torch.randint(1, kv_len + 1, (batch,), generator=numbers).to(device)
    some = (torch.rand(batch, q_len, kv_len, generator=numbers) < 0.4).to(device)
    return {
        "full": (None, None),
        "causal": (None, causal),
        "window": (None, sliding_window(37)),
        "window and sinks": (None, or_masks(sliding_window(20), and_masks(causal, lambda b, h, q, kv: kv < 4))),
        "alibi": (alibi(heads), causal),
        "alibi slopes": (alibi_slopes(torch.exp2(-torch.arange(1, heads + 1, device=device) * 0.5)), causal),
        "soft cap": (soft_cap(2.0), None),
        "soft cap, causal": (soft_cap(3.5), causal),
        "document": (None, document(documents)),
        "document, causal": (None, and_masks(causal, document(documents.to(torch.int32)))),
        "prefix-LM": (None, prefix_lm(prefix)),
        "prefix-LM, int32": (None, prefix_lm(prefix.to(torch.int32))),
        "NATTEN": (None, natten(9, 13, 5, 3)),
        "tanh-biased": (tanh_biased(normal(batch, heads, most)), causal),
        "relative position": (relative_position(normal(heads, 65)), causal),
        "relative position, half": (relative_position(normal(heads, 33).half()), None),
        "T5 buckets": (relative_buckets(normal(32, heads), 32), None),
        "causal by score": (causal_by_score, None),
        "additive window": (additive_window(25), None),
        "head-dependent": (None, head_dependent),
        "checkerboard": (None, checkerboard),
        "shifted by a tensor": (None, shifted(torch.tensor(17, device=device))),
        "mask of bools": (None, table_mask(some)),
        "chunk or window": (rounded, chunk_or_window),
        "dilated": (lambda score, b, h, q, kv: score - torch.log1p((q - kv).abs().float()), dilated),
    }
