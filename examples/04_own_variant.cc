// A variant of one's own, as text, compiled when prepare() first needs it; tested against the double-precision reference.
#include <fovea/fovea.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

// [text]
// The last `local` keys, and every `stride`-th key before them; far keys lose logit with the logarithm of their distance.
const fovea::Variant dilated = fovea::Variant::from_source("dilated", R"(
struct Dilated : VariantBase {
  struct Mask {                                // what decides which keys are seen: given to plan()
    int32_t local;
    int32_t stride = 4;
    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      const auto distance = at.q_pos - at.kv_pos;
      return (distance < local) | (distance % stride == 0);
    }
    FOVEA_FN constexpr KvRange range() const { return {}; }   // a bound on keep, if you know one
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED_AT_LEAST(local, 1), FOVEA_OPTIONAL_AT_LEAST(stride, 1))
  };
  struct Params {                              // the rest: given to run()
    float decay;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED(decay))
  };
  template <class T>                           // float in kernels, double in the reference
  FOVEA_FN T transform_logit(T logit, const Position<>& at) const {
    return logit - T(p.decay) * math::log(T(1 + max_(at.q_pos - at.kv_pos, 0)));
  }
  Mask m;
  Params p;
};
)");
// [/text]

// [test]
/// The last of 64 tokens attends to all of them. Keys are zero, so that logits are what the variant makes of them.
std::vector<float> attend(const char* backend, float decay) {
  using namespace fovea;
  constexpr int kTokens = 64, kDim = 16;
  const Engine engine({.backend = backend});
  AttentionSpec spec{.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = kDim, .variant = "causal" + dilated};
  spec.q_dtype = spec.k_dtype = spec.v_dtype = spec.o_dtype = DType::f32;
  spec.formats = {KvFormat::ragged()};
  const Attention attention = engine.prepare(spec, {.max_requests = 1});  // compiles, or finds what it compiled before

  Plan plan = attention.new_plan();
  const std::vector<std::int32_t> qo_indptr{0, 1}, kv_indptr{0, kTokens};
  const KvTables tables = KvTables::ragged(TensorView::of(kv_indptr));
  const std::vector<Value> mask_values{{"local", 8}}, params{{"decay", decay}};
  const MaskValues mask{.values = mask_values};
  attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}}, {.masks = {&mask, 1}});

  std::vector<float> q(kDim, 1.0f), k(kTokens * kDim, 0.0f), v(k.size()), o(kDim);
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] = std::sin(static_cast<float>(i));
  }
  const KvCache cache{.k = TensorView::contiguous(k.data(), DType::f32, {kTokens, 1, kDim}),
                      .v = TensorView::contiguous(v.data(), DType::f32, {kTokens, 1, kDim})};
  attention.run(plan, {.q = TensorView::contiguous(q.data(), DType::f32, {1, 1, kDim}),
                       .kv = {&cache, 1},
                       .o = TensorView::contiguous(o.data(), DType::f32, {1, 1, kDim}),
                       .params = params});
  return o;
}

/// The formula once more, without Fovea.
double expected(float decay) {
  double sum = 0, weighted = 0;
  for (int distance = 0; distance < 64; ++distance) {
    if (distance < 8 || distance % 4 == 0) {
      const double weight = std::pow(1.0 + distance, -static_cast<double>(decay));
      sum += weight;
      weighted += weight * std::sin(16.0 * (63 - distance));
    }
  }
  return weighted / sum;
}
// [/test]

}  // namespace

int main() {
  bool right = true;
  for (const float decay : {0.0f, 1.0f}) {
    const std::vector<float> cpu = attend("cpu", decay), reference = attend("reference", decay);
    std::printf("decay %g: %g, reference %g, formula %g\n", static_cast<double>(decay), static_cast<double>(cpu[0]),
                static_cast<double>(reference[0]), expected(decay));
    right = right && std::fabs(static_cast<double>(cpu[0]) - expected(decay)) < 1e-5;
    for (std::size_t i = 0; i < cpu.size(); ++i) {
      right = right && std::fabs(cpu[i] - reference[i]) < 1e-5f;
    }
  }
  return right ? 0 : 1;
}
