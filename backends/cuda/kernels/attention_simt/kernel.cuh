// attention_simt: one warp a row, one column at a time, in float. Any dtype, any head_dim, any strides: what no faster kernel takes.
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/device/ptx/grid.cuh"

namespace fovea::cuda::attention_simt {

struct Config {
  DType q = DType::f32, k = DType::f32, v = DType::f32;
  int32_t dims_a_lane = 2;  // of the larger of both head_dims, over 32 lanes
  PlanForm form = PlanForm::list;
};

inline constexpr int32_t kWarps = 8;

__device__ __forceinline__ float sum_over_warp(float x) {
#pragma unroll
  for (int32_t step = 16; step > 0; step /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, step);
  }
  return x;
}

/// A row's state on its way: o and sum in units of 2^top.
template <Config C>
struct RowState {
  float o[C.dims_a_lane] = {};
  float top = -math::infinity<float>(), sum = 0.0f;
};

template <Config C>
__device__ __forceinline__ void load_row(float (&to)[C.dims_a_lane], DType dtype, const void* data, int64_t element, int32_t head_dim) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll
  for (int32_t i = 0; i < C.dims_a_lane; ++i) {
    const int32_t d = lane + 32 * i;
    to[i] = d < head_dim ? to_float(dtype, data, element + d) : 0.0f;
  }
}

/// A warp's row in shared memory: transforms take whole rows.
template <Config C>
struct RowBuffer {
  float* row;  // [32 * dims_a_lane]

  /// Calls transform(row) on x times scale, which the lanes hold.
  template <class Transform>
  __device__ __forceinline__ void apply(float (&x)[C.dims_a_lane], float scale, const Transform& transform) const {
    const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
#pragma unroll
    for (int32_t i = 0; i < C.dims_a_lane; ++i) {
      row[lane + 32 * i] = x[i] * scale;
    }
    __syncwarp();
    if (lane == 0) {
      transform(row);
    }
    __syncwarp();
#pragma unroll
    for (int32_t i = 0; i < C.dims_a_lane; ++i) {
      x[i] = row[lane + 32 * i];
    }
    __syncwarp();
  }
};

/// Adds a column with logit (natural, transformed; a weight without softmax).
template <Config C, class V>
__device__ __forceinline__ void add_column(RowState<C>& state, float logit, float v_scale, const float (&v)[C.dims_a_lane]) {
  float weight = logit;
  float keep = 1.0f;
  if constexpr (V::use_softmax) {
    const float logit2 = logit * math::kLog2e;
    if (logit2 == -math::infinity<float>()) {
      return;
    }
    const float top = max_(state.top, logit2);
    keep = math::exp2(state.top - top);
    weight = math::exp2(logit2 - top);
    state.sum = state.sum * keep + weight;
    state.top = top;
  }
#pragma unroll
  for (int32_t i = 0; i < C.dims_a_lane; ++i) {
    // A weight of zero must not meet what may be NaN.
    state.o[i] = state.o[i] * keep + (weight == 0.0f ? 0.0f : weight * v_scale * v[i]);
  }
}

template <Config C, class V>
__device__ void attend_row(const KernelParams& params, const V& v, const typename V::Mask& mask, const WorkItem& item,
                           const RowGroup& group, const Row& row, const RowBuffer<C>& buffer, RowState<C>& state) {
  const KvView& kv = params.kv[group.format];
  const Columns columns = columns_of(kv, group);
  const RowBounds bounds{.q = {row.q_pos, row.q_pos}, .col_end_min = row.col_end, .col_end_max = row.col_end, .kv_len_max = row.kv_len};
  const SpanPair spans = tiles_of_item(params, item, group, bounds, 1).columns;
  float q[C.dims_a_lane];
  load_row<C>(q, C.q, params.q.data, row.token * params.q.token_stride + row.qo_head * params.q.head_stride, params.head_dim_qk);
  if constexpr (HasTransformQuery<V>) {
    buffer.apply(q, params.q_scale, [&](float* x) { transform_query_row(v, x, params.head_dim_qk, position_of(row, item.kv_head, 0)); });
  }
  for (int32_t half = 0; half < 2; ++half) {
    const Span span = half == 0 ? spans.first : spans.second;
    for (int32_t column = span.begin; column < span.end; ++column) {
      if (!columns.by_index && !mask.keep(position_of(row, item.kv_head, columns.kv_pos + column * columns.kv_pos_stride))) {
        continue;  // before its table entry is read
      }
      const int32_t entry = column / columns.page_size;
      const int32_t slot = column - entry * columns.page_size;
      const int64_t page = columns.table == nullptr ? columns.table_begin + entry : columns.table[entry];
      const Position<> at = position_of(row, item.kv_head, kv_position(columns, column, page, slot));
      if (columns.by_index && (at.kv_pos >= row.kv_len || !mask.keep(at))) {
        continue;
      }
      const auto scale_at = [&](const ScaleView& s) {
        return s.per_token ? s.data[page * s.page_stride + slot * s.token_stride + item.kv_head * s.head_stride]
                           : head_scale(s, item.kv_head);
      };
      float k[C.dims_a_lane];
      load_row<C>(k, C.k, kv.k.data, page * kv.k.page_stride + slot * kv.k.token_stride + item.kv_head * kv.k.head_stride,
                  params.head_dim_qk);
      float k_scale = scale_at(kv.k.scale);
      if constexpr (HasTransformKey<V>) {
        buffer.apply(k, k_scale, [&](float* x) { transform_key_row(v, x, params.head_dim_qk, at); });
        k_scale = 1.0f;
      }
      float dot = 0.0f;
#pragma unroll
      for (int32_t i = 0; i < C.dims_a_lane; ++i) {
        dot += q[i] * k[i];
      }
      const float logit = sum_over_warp(dot) * (params.sm_scale * k_scale);
      float value[C.dims_a_lane];
      load_row<C>(value, C.v, kv.v.data, page * kv.v.page_stride + slot * kv.v.token_stride + item.kv_head * kv.v.head_stride,
                  params.head_dim_vo);
      float v_scale = scale_at(kv.v.scale);
      if constexpr (HasTransformValue<V>) {
        buffer.apply(value, v_scale, [&](float* x) { transform_value_row(v, x, params.head_dim_vo, at); });
        v_scale = 1.0f;
      }
      add_column<C, V>(state, transformed_logit(v, logit, at), v_scale, value);
    }
  }
}

template <Config C, AttentionVariant V>
__device__ __forceinline__ void attention(const KernelParams& params, const typename V::Mask& mask,
                                          const typename V::Params& variant_params, int32_t config) {
  constexpr bool kTransforms = HasTransformQuery<V> || HasTransformKey<V> || HasTransformValue<V>;
  __shared__ float rows[kTransforms ? kWarps * 32 * C.dims_a_lane : 1];
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const V v = make_variant<V>(mask, variant_params);
  const int32_t warp = static_cast<int32_t>(threadIdx.x / 32);
  for_each_item<C.form>(params, config, [&](const WorkItem& item, int32_t round) {
    const RowGroup group = params.plan.groups[item.row_group];
    for (int32_t p = item.row_begin + warp; p < item.row_end; p += kWarps) {
      const Row row = make_row(params, group, item.kv_head, p);
      RowState<C> state;
      const RowBuffer<C> buffer{rows + (kTransforms ? warp * 32 * C.dims_a_lane : 0)};
      attend_row<C, V>(params, v, mask, item, group, row, buffer, state);
      const float factor = V::use_softmax ? (state.sum == 0.0f ? 0.0f : 1.0f / state.sum) : 1.0f;  // NaN is no empty state
      const float lse2 = state.sum == 0.0f ? -math::infinity<float>() : state.top + math::log2(state.sum);
      // Lane l holds element l + 32 i at place i: `o` is asked for them in that order.
      int32_t i = 0;
      write_row(
          params, v, item, group.format, row, p - item.row_begin, [&](int32_t) { return state.o[i++] * factor; }, lse2);
    }
    return round;
  });
}

}  // namespace fovea::cuda::attention_simt
