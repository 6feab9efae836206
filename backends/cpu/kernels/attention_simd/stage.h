// Keys and values of variants that transform them: a tile's rows of one head as floats, dequantised and transformed, so that everything
// after sees an ordinary f32 cache without scales.
#pragma once

#include "backends/cpu/device/vector.h"
#include "backends/cpu/kernels/attention_simd/kernel.h"
#include "backends/cpu/kernels/attention_simd/rows.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// How the rows of a set are transformed; without a transform of keys or values everything is null.
struct Transforms {
  const VariantCode* variant;  // null: none
  const void* mask;
  const void* params;
  float* k_stage;
  float* v_stage;
  int32_t head_dim_qk, head_dim_vo;
};

FOVEA_FN Transforms transforms_of(const KernelParams& params, const VariantCode& variant, const Scratch& scratch) {
  const bool any = variant.transform_key != nullptr || variant.transform_value != nullptr;
  return {.variant = any ? &variant : nullptr,
          .mask = params.mask,
          .params = params.variant_params,
          .k_stage = scratch.k_stage,
          .v_stage = scratch.v_stage,
          .head_dim_qk = params.head_dim_qk,
          .head_dim_vo = params.head_dim_vo};
}

/// A cache as it looks once its rows are staged.
FOVEA_FN CacheView staged_cache(const CacheView& cache) {
  CacheView staged = cache;
  staged.dtype = DType::f32;
  staged.scale = {.data = nullptr, .page_stride = 0, .token_stride = 0, .head_stride = 0, .number = 1.0f, .per_token = 0};
  return staged;
}

FOVEA_FN KvView staged_view(const KvView& kv, const VariantCode& variant) {
  KvView staged = kv;
  staged.k = variant.transform_key != nullptr ? staged_cache(kv.k) : kv.k;
  staged.v = variant.transform_value != nullptr ? staged_cache(kv.v) : kv.v;
  return staged;
}

/// One row as floats, times its scale.
FOVEA_FN void load_scaled(DType dtype, const void* row, int32_t head_dim, float scale, float* out) {
  const Vec by = broadcast(scale);
  with_dtype(dtype, [&]<DType D>() {
    const char* p = static_cast<const char*>(row);
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      const int32_t left = head_dim - d;
      const char* from = p + static_cast<int64_t>(d) * kBytes<D>;
      store(out + d, multiply(left >= kLanes ? load_as<D>(from) : load_first_as<D>(from, left), by));
    }
  });
}

/// Rows of one tensor. `scales` where they differ from column to column, else `scale` for all.
struct StageArgs {
  DType dtype;
  const float* scales;
  float scale;
  int32_t head_dim, kv_head, num_columns;
  const void** rows;  // in: of the cache; out: staged
  float* stage;
};

template <class Transform>
FOVEA_FN void stage_rows(const StageArgs& args, const ColumnTable& table, const Transform& transform) {
  for (int32_t c = 0; c < args.num_columns; ++c) {
    if (table.live[c] == 0) {
      continue;  // already points to zeros
    }
    float* row = args.stage + static_cast<int64_t>(c) * padded(args.head_dim);
    load_scaled(args.dtype, args.rows[c], args.head_dim, args.scales != nullptr ? args.scales[c] : args.scale, row);
    Position<> at{};
    at.kv_pos = table.kv_pos[c];
    at.kv_head = args.kv_head;
    transform(row, at);
    args.rows[c] = row;
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
