// A user's program against the installed library: one query over two keys with equal logits must return the mean of the values.
#include <fovea/fovea.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  constexpr int kDim = 8;
  fovea::AttentionSpec spec{.num_qo_heads = 1, .num_kv_heads = 1, .head_dim_qk = kDim};
  spec.q_dtype = spec.k_dtype = spec.v_dtype = spec.o_dtype = fovea::DType::f32;
  spec.formats = {fovea::KvFormat::ragged()};

  std::vector<float> q(kDim, 1.0f), k(2 * kDim, 1.0f), v(2 * kDim), o(kDim, 0.0f);
  for (int i = 0; i < 2 * kDim; ++i) {
    v[static_cast<std::size_t>(i)] = static_cast<float>(i);
  }
  const std::vector<std::int32_t> qo_indptr{0, 1}, kv_indptr{0, 2};
  const fovea::KvTables tables = fovea::KvTables::ragged(fovea::TensorView::of(kv_indptr));
  const fovea::KvCache cache{.k = fovea::TensorView::contiguous(k.data(), fovea::DType::f32, {2, 1, kDim}),
                             .v = fovea::TensorView::contiguous(v.data(), fovea::DType::f32, {2, 1, kDim})};

  const fovea::Engine engine;
  // Once with a variant of the library, once with this program's own: an installed library compiles it without a source tree.
  const fovea::Variant own = fovea::Variant::from_source("first_key", R"(
    struct FirstKey : VariantBase {
      struct Params { float bias; FOVEA_FIELDS(Params, FOVEA_REQUIRED(bias)) };
      template <class T> FOVEA_FN T transform_logit(T logit, const Position<>& at) const {
        return at.kv_pos == 0 ? logit + T(p.bias) : logit;
      }
      Params p;
    };)");
  const fovea::Value bias{"bias", -100.0f};
  for (const bool is_own : {true, false}) {
    spec.variant = is_own ? "causal" + own : "causal";
    const fovea::Attention attention = engine.prepare(spec, {.max_requests = 1});
    fovea::Plan plan = attention.new_plan();
    attention.plan(plan, {.qo_indptr = fovea::TensorView::of(qo_indptr), .kv = {&tables, 1}});
    fovea::RunArgs args{.q = fovea::TensorView::contiguous(q.data(), fovea::DType::f32, {1, 1, kDim}),
                        .kv = {&cache, 1},
                        .o = fovea::TensorView::contiguous(o.data(), fovea::DType::f32, {1, 1, kDim})};
    if (is_own) {
      args.params = {&bias, 1};
    }
    attention.run(plan, args);
    if (is_own && std::fabs(o[0] - v[kDim]) > 1e-5f) {
      std::printf("own variant: o[0] = %g, expected %g\n", static_cast<double>(o[0]), static_cast<double>(v[kDim]));
      return 1;
    }
  }
  for (int i = 0; i < kDim; ++i) {
    const float mean = static_cast<float>(i) + kDim / 2.0f;
    if (std::fabs(o[static_cast<std::size_t>(i)] - mean) > 1e-5f) {
      std::printf("o[%d] = %g, expected %g\n", i, static_cast<double>(o[static_cast<std::size_t>(i)]), static_cast<double>(mean));
      return 1;
    }
  }
  std::printf("%s\n", engine.describe().c_str());
  return 0;
}
