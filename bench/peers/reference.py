"""What the answer is, in double precision, and how far an output is from it."""

import torch

# Largest relative error of a (row, head) vector, |o - o64| / |o64|. Weights and outputs rounded to 16 bits give 2e-3 to 5e-3 on random data whatever
# the length; a mask off by one token, a wrong page or scale gives 5e-2 and more.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 5e-3}
# Over an 8-bit cache some peers round queries or weights to 8 bits too. They are timed and marked, for they answer a coarser question.
COARSE = 8e-2


def sampled_requests(workload):
    """First, middle, last, longest and shortest; every request of a decode step of at most 64."""
    count = workload.num_requests
    if workload.kind == "decode" and count <= 64:
        return list(range(count))
    by_length = sorted(range(count), key=lambda request: workload.kv_lens[request])
    by_queries = max(range(count), key=lambda request: workload.qo_lens[request])
    return sorted({0, count // 2, count - 1, by_length[0], by_length[-1], by_queries})


def sampled_rows(qo_len):
    return sorted({0, qo_len // 3, qo_len // 2, qo_len - 1})


def attention(q, k, v, positions, sm_scale):
    """q [rows, qo heads, dim], k and v [tokens, kv heads, dim]; a row sees columns up to its position. In float64."""
    rows, heads, dim = q.shape
    kv_heads = k.shape[1]
    q = q.double().view(rows, kv_heads, heads // kv_heads, dim).permute(1, 0, 2, 3).reshape(kv_heads, -1, dim)
    logits = torch.matmul(q, k.double().permute(1, 2, 0)) * sm_scale
    columns = torch.arange(k.shape[0], device=q.device)
    hidden = columns[None] > positions.repeat_interleave(heads // kv_heads)[:, None]
    weights = logits.masked_fill_(hidden, float("-inf")).softmax(-1)
    out = torch.matmul(weights, v.double().transpose(0, 1))
    return out.view(kv_heads, rows, heads // kv_heads, -1).permute(1, 0, 2, 3).reshape(rows, heads, -1)


def answers(batch, copy, layout):
    """[(rows of o, their values)] of sampled rows; kept, since every peer of the same layout is compared with them."""
    if (copy, layout) not in batch.answers:
        workload, found = batch.workload, []
        for request in sampled_requests(workload):
            qo_len, kv_len = workload.qo_lens[request], workload.kv_lens[request]
            rows = torch.tensor(sampled_rows(qo_len), device=batch.device)
            positions = rows + (kv_len - qo_len) if workload.causal else torch.full_like(rows, kv_len - 1)
            k, v = batch.request_kv(copy, request, layout)
            at = rows + batch.qo_indptr_list[request]
            found.append((at, attention(batch.q[copy][at], k, v, positions, batch.sm_scale)))
        batch.answers[copy, layout] = found
    return batch.answers[copy, layout]


def worst_error(batch, output, copy, layout):
    """Of the sampled rows; infinite if any number of the whole output is not finite, for it was poisoned before the call."""
    if tuple(output.shape) != tuple(batch.o.shape):
        raise ValueError(f"the output has shape {tuple(output.shape)}, not {tuple(batch.o.shape)}")
    if not bool(torch.isfinite(output).all()):
        return float("inf")
    worst = 0.0
    for rows, expected in answers(batch, copy, layout):
        error = ((output[rows].double() - expected).norm(dim=-1) / expected.norm(dim=-1)).max()
        worst = max(worst, float(error))
    return worst


def verdict(error, workload, dtype):
    """"right", "coarse" (over an 8-bit cache) or "wrong"."""
    if error <= TOLERANCE[dtype]:
        return "right"
    return "coarse" if workload.kv_dtype == "e4m3" and error <= COARSE else "wrong"
