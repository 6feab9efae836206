// Where a row's state goes: finalised into the output, or as a partial or level state in float.
#pragma once

#include "backends/cpu/device/vector.h"
#include "backends/cpu/kernels/attention_simd/rows.h"
#include "portable/state.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// A row's state: o divided by its sum, lse in base 2. `o` has room for whole vectors.
struct RowState {
  float* o;
  float lse2;
};

FOVEA_FN void scale_row(float* o, int32_t head_dim, float factor) {
  const Vec by = broadcast(factor);
  for (int32_t d = 0; d < head_dim; d += kLanes) {
    store(o + d, multiply(load(o + d), by));
  }
}

FOVEA_FN void copy_row(float* to, const float* from, int32_t head_dim) {
  for (int32_t d = 0; d < head_dim; d += kLanes) {
    const int32_t left = min_(kLanes, head_dim - d);
    store_first(to + d, load_first(from + d, left), left);
  }
}

/// o and lse of a row as the caller sees them. Changes state.o.
FOVEA_FN void write_output(const KernelParams& params, const VariantCode& variant, const ItemRow& row, RowState state) {
  const OutView& out = params.out;
  const int32_t head_dim = params.head_dim_vo;
  float lse2 = state.lse2;
  const bool empty = variant.use_softmax && lse2 == -math::infinity<float>();  // o = 0, lse = -inf, with an extra logit too
  if (!params.write_states && !empty) {
    const float with_extra = variant.finish_row(params.mask, params.variant_params, row.at, lse2, state.o, head_dim);
    lse2 = params.lse_with_extra ? with_extra : lse2;
  }
  const int64_t element = row.token * out.token_stride + row.at.qo_head * out.head_stride;
  with_output_dtype(out.dtype, [&]<DType D>() {
    char* o = static_cast<char*>(out.o) + element * kBytes<D>;
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      store_first_as<D>(o + d * kBytes<D>, load(state.o + d), min_(kLanes, head_dim - d));
    }
  });
  if (out.lse != nullptr) {
    out.lse[row.token * out.lse_token_stride + row.at.qo_head * out.lse_head_stride] = params.lse_base2 ? lse2 : lse2 * math::kLn2;
  }
}

FOVEA_FN void write_partial(const PartialView& partial, int64_t index, int32_t head_dim, RowState state) {
  copy_row(partial.o + index * head_dim, state.o, head_dim);
  partial.lse2[index] = state.lse2;
}

FOVEA_FN int64_t level_index(const KernelParams& params, int32_t format, int32_t token, int32_t qo_head) {
  const int64_t row = static_cast<int64_t>(format) * params.partial.level_rows + token;
  return params.partial.level_begin + row * params.num_qo_heads + qo_head;
}

/// The running merge of states in a fixed order.
struct StateSum {
  float* o;  // whole vectors
  float lse2;
  bool empty;

  /// Adds the state at `o_other`. Without softmax states are sums and add.
  FOVEA_FN void merge(const float* o_other, float lse2_other, int32_t head_dim, bool use_softmax) {
    if (empty) {
      copy_row(o, o_other, head_dim);
      lse2 = lse2_other;
      empty = false;
      return;
    }
    const MergeWeights<float> w = use_softmax ? merge_weights(lse2, lse2_other) : MergeWeights<float>{1.0f, 1.0f, lse2};
    const Vec a = broadcast(w.a);
    const Vec b = broadcast(w.b);
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      const Vec other = load_first(o_other + d, min_(kLanes, head_dim - d));
      store(o + d, multiply_add(b, other, multiply(a, load(o + d))));
    }
    lse2 = w.lse2;
  }
};

}  // namespace fovea::cpu::FOVEA_CPU_ISA
