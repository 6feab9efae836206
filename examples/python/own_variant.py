"""A variant of one's own from C++ text, on NumPy arrays. The first run compiles it; later ones find it in the cache."""

import numpy as np

import fovea

# [variant]
TANH_BIAS = fovea.variant("""
struct TanhBias : VariantBase {
  struct Mask {                                // what decides which keys are seen: given to plan
    int32_t reach;
    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return (at.kv_pos <= at.q_pos) & (at.q_pos - at.kv_pos < reach);
    }
    FOVEA_FN constexpr KvRange range() const { return {.left = reach - 1, .right = 0}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED_AT_LEAST(reach, 1))
  };
  struct Params {                              // the rest: given to run
    float bias;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED(bias))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>& at) const {
    return logit + T(p.bias) * math::tanh(T(at.q_pos - at.kv_pos));
  }
  Mask m;
  Params p;
};
""")

engine = fovea.Engine("cpu")
spec = fovea.AttentionSpec(4, 2, 64, q_dtype="f32", k_dtype="f32", v_dtype="f32", o_dtype="f32", variant=TANH_BIAS, formats=fovea.KvFormat.ragged())
attention = engine.prepare(spec, fovea.Limits(max_requests=4, max_query_tokens=128))

plan = attention.plan([0, 100], fovea.KvTables.ragged([0, 100]), mask={"reach": 30})
rng = np.random.default_rng(0)
q, k, v = (rng.standard_normal((100, heads, 64), dtype=np.float32) for heads in (4, 2, 2))
out = plan.run(q, (k, v), bias=0.5)
# [/variant]

distance = np.arange(100)[:, None] - np.arange(100)[None, :]
logits = np.einsum("qhd,khd->hqk", q, np.repeat(k, 2, axis=1)) / 8 + 0.5 * np.tanh(distance)
weights = np.where((distance >= 0) & (distance < 30), np.exp(logits), 0)
expected = np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), np.repeat(v, 2, axis=1))
np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
print("out", out.shape, "as the formula has it;", engine.compiled()[0]["compiler"])
