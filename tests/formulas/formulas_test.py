#!/usr/bin/env python3
"""The formula of every built-in variant once more, in numpy, against what the backends compute.

    tests/formulas/formulas_test.py build/release/tests/formulas/variant_results

Written from the papers and model code, not from variants/*.h. A composition is its parts in order. Exit code 77 where there is no numpy.
"""

import json
import subprocess
import sys

try:
    import numpy as np
except ImportError:
    print("no numpy; `make deps` installs it into .venv")
    sys.exit(77)


class Request:
    """One request: positions, and the values of the variant's mask and params."""

    def __init__(self, index, qo_len, kv_len, heads, values):
        self.index, self.qo_len, self.kv_len, self.heads, self.values = index, qo_len, kv_len, heads, values
        self.q_pos = kv_len - qo_len + np.arange(qo_len)[:, None]  # bottom-right
        self.kv_pos = np.arange(kv_len)[None, :]

    def get(self, name, default=None):
        return self.values.get(name, default)


# ---- what a query sees: [queries, keys] ----------------------------------------------------------------------------------------------

def causal(r):
    return r.kv_pos <= r.q_pos


def sliding_window(r):
    near = r.q_pos - r.kv_pos <= r.get("window_left")
    return causal(r) & (near | (r.kv_pos < r.get("num_sink_tokens", 0)))


def chunked_local(r):
    size = r.get("chunk_size")
    return causal(r) & (np.floor(r.kv_pos / size) == np.floor(r.q_pos / size))


def prefix_lm(r):
    return causal(r) | (r.kv_pos < r.get("prefix_len")[r.index])


def document(r):
    begin = r.get("document_indptr")[r.index]
    ids = np.array(r.get("document_ids")[begin:begin + r.kv_len])
    of_query = ids[np.clip(r.q_pos[:, 0], 0, r.kv_len - 1)]
    return of_query[:, None] == ids[None, :]


def custom_mask(r):
    begin = r.get("mask_indptr")[r.index]
    bits = np.unpackbits(np.array(r.get("mask_bits")[begin:], dtype=np.uint8), bitorder="little")
    return bits[:r.qo_len * r.kv_len].reshape(r.qo_len, r.kv_len).astype(bool)


MASKS = {f.__name__: f for f in [causal, sliding_window, chunked_local, prefix_lm, document, custom_mask]}


# ---- logits: [heads, queries, keys] --------------------------------------------------------------------------------------------------

def soft_cap(r, logits):
    return r.get("cap") * np.tanh(logits / r.get("cap"))


def alibi(r, logits):
    distance = np.abs(r.q_pos - r.kv_pos) * np.where(r.kv_pos <= r.q_pos, -1, 1)
    return logits + np.array(r.get("slopes"))[:, None, None] * distance


def temperature(r, logits):
    length = np.floor((np.maximum(r.q_pos, 0) + 1) / r.get("position_step", 8192))
    return logits * (1 + r.get("position_scale", 0) * np.log(1 + length)) / r.get("temperature", 1)


LOGITS = {f.__name__: f for f in [soft_cap, alibi, temperature]}


# ---- queries and keys: [tokens, heads, dim] ------------------------------------------------------------------------------------------

def angles(r, positions, dim):
    """Cosines and sines [tokens, pairs]."""
    if r.get("cos_sin") is not None:
        n = len(r.get("cos_sin")) // 60
        table = np.array(r.get("cos_sin")).reshape(60, n)
        rows = table[np.clip(positions, 0, 59)]
        return rows[:, :n // 2], rows[:, n // 2:]
    n = int(r.get("rotary_dim", dim))
    frequencies = 1.0 / r.get("theta", 10000.0) ** (np.arange(0, n, 2) / n)
    factor, context = r.get("factor", 1.0), r.get("original_context", 0)
    scaled = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        low, high = r.get("low_freq_factor", 1.0), r.get("high_freq_factor", 4.0)
        if context == 0 or wavelength > context / low:
            scaled.append(frequency / factor)
        elif wavelength < context / high:
            scaled.append(frequency)
        else:
            smooth = (context / wavelength - low) / (high - low)
            scaled.append((1 - smooth) * frequency / factor + smooth * frequency)
    angle = positions[:, None] * np.array(scaled)[None, :]
    return np.cos(angle), np.sin(angle)


def rotated(r, x, positions, adjacent):
    cos, sin = angles(r, positions, x.shape[-1])
    half = cos.shape[1]
    y = x.copy()
    a, b = (np.arange(half) * 2, np.arange(half) * 2 + 1) if adjacent else (np.arange(half), np.arange(half) + half)
    y[..., a] = x[..., a] * cos[:, None] - x[..., b] * sin[:, None]
    y[..., b] = x[..., b] * cos[:, None] + x[..., a] * sin[:, None]
    return y


def attend(parts, r, q, k, v):
    """(o [queries, heads, dim], lse [queries, heads] or None)"""
    for part in parts:
        if part.startswith("rope"):
            q = rotated(r, q, r.q_pos[:, 0], part == "rope_interleaved")
            k = rotated(r, k, r.kv_pos[0], part == "rope_interleaved")
    group = r.heads // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    logits = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
    seen = np.ones((r.qo_len, r.kv_len), dtype=bool)
    for part in parts:
        logits = LOGITS[part](r, logits) if part in LOGITS else logits
        seen = seen & MASKS[part](r) if part in MASKS else seen
    if "sigmoid" in parts:
        weights = np.where(seen, 1 / (1 + np.exp(-(logits + r.get("bias", 0.0)))), 0.0)
        return np.einsum("hqk,khd->qhd", weights, v), None
    logits = np.where(seen, logits, -np.inf)
    weights = np.exp(logits)
    total = weights.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lse = np.log(total)
        below = total + (np.exp(np.array(r.get("sink")))[:, None] if "sink" in parts else 0.0)
        share = np.where(total[..., None] > 0, weights / below[..., None], 0.0)
    return np.einsum("hqk,khd->qhd", share, v), lse.T


def check(all_results):
    heads, kv_heads, dim = all_results["heads"], all_results["kv_heads"], all_results["dim"]
    qo, kv = all_results["qo_indptr"], all_results["kv_indptr"]
    q = np.array(all_results["q"]).reshape(-1, heads, dim)
    k, v = (np.array(all_results[name]).reshape(-1, kv_heads, dim) for name in "kv")
    failed = 0
    for case in all_results["cases"]:
        expected_o, expected_lse = np.zeros_like(q), np.zeros(q.shape[:2])
        for i in range(len(qo) - 1):
            r = Request(i, qo[i + 1] - qo[i], kv[i + 1] - kv[i], heads, {**case["mask"], **case["params"]})
            o, lse = attend(case["variant"].split("+"), r, q[qo[i]:qo[i + 1]], k[kv[i]:kv[i + 1]], v[kv[i]:kv[i + 1]])
            expected_o[qo[i]:qo[i + 1]] = o
            expected_lse[qo[i]:qo[i + 1]] = 0 if lse is None else np.maximum(lse, -1e30)
        for backend, result in case["results"].items():
            # Sums of up to 80 values of size 1 in float: 4e-6 is a dozen roundings of them (sigmoid's sums are larger than 1).
            scale = max(1.0, np.abs(expected_o).max())
            error = np.abs(np.array(result["o"]).reshape(q.shape) - expected_o).max() / scale
            if result["lse"] is not None:
                difference = np.abs(np.array(result["lse"]).reshape(expected_lse.shape) - expected_lse)
                error = max(error, (difference / np.maximum(1, np.abs(expected_lse))).max())
            if not error < 4e-6:
                failed += 1
                print(f"{case['variant']} on {backend}: off by {error:.3g}, with {sorted(case['mask'])} {sorted(case['params'])}")
    missing = set(all_results["variants"]) - {case["variant"] for case in all_results["cases"]}
    for name in sorted(missing):
        failed += 1
        print(f"{name}: built in, but without a case in tests/formulas/variant_results.cc")
    print(f"{len(all_results['cases'])} cases, {failed} wrong")
    return 1 if failed else 0


if __name__ == "__main__":
    done = subprocess.run([sys.argv[1]], capture_output=True, text=True, check=True)
    sys.exit(check(json.loads(done.stdout)))
