// Merging: partial states of cut units, then level states of composed rows. One warp a row; states in a fixed order, so that the bits never
// depend on who ran when. Launched after the attention kernels of a run.
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/device/ptx/grid.cuh"

namespace fovea::cuda::merge {

inline constexpr int32_t kWarps = 4;

/// Sums states at rows index(0) .. index(count - 1) of the partial states: o(d) = sum of weight * o, weights from lse.
template <class V, class Index>
struct StateSum {
  const PartialView& partial;
  const Index& index;
  int32_t count, head_dim;
  float top, total, factor;

  __device__ __forceinline__ StateSum(const PartialView& p, const Index& i, int32_t n, int32_t dim)
      : partial(p), index(i), count(n), head_dim(dim), top(-math::infinity<float>()), total(0.0f), factor(1.0f) {
    if constexpr (V::use_softmax) {
      for (int32_t s = 0; s < count; ++s) {
        top = max_(top, partial.lse2[index(s)]);
      }
      for (int32_t s = 0; s < count; ++s) {
        total += weight(s);
      }
      factor = total == 0.0f ? 0.0f : ptx::reciprocal_approx(total);
    }
  }
  __device__ __forceinline__ float weight(int32_t s) const {
    if constexpr (V::use_softmax) {
      const float lse2 = partial.lse2[index(s)];
      return lse2 == -math::infinity<float>() ? 0.0f : math::exp2(lse2 - top);  // NaN comes out: it is no empty state
    } else {
      return 1.0f;
    }
  }
  __device__ __forceinline__ float lse2() const {
    return !V::use_softmax ? 0.0f : total == 0.0f ? -math::infinity<float>() : top + math::log2(total);
  }
  __device__ __forceinline__ float operator()(int32_t d) const {
    float sum = 0.0f;
    for (int32_t s = 0; s < count; ++s) {
      const float w = weight(s);
      sum += w == 0.0f ? 0.0f : w * partial.o[index(s) * head_dim + d];
    }
    return sum * factor;
  }
};

template <class V>
__device__ __forceinline__ void merge_item(const KernelParams& params, const V& v, const MergeItem& item) {
  const RowGroup group = params.plan.groups[item.row_group];
  for (int32_t p = item.row_begin + static_cast<int32_t>(threadIdx.x / 32); p < item.row_end; p += kWarps) {
    const Row row = make_row(params, group, item.kv_head, p);
    const auto index = [&](int32_t s) {
      return static_cast<int64_t>(item.slot_begin + s) * params.partial.rows_per_slot + (p - item.row_begin);
    };
    const StateSum<V, decltype(index)> sum(params.partial, index, item.num_slots, params.head_dim_vo);
    if (params.num_formats > 1) {
      write_partial(params, level_index(params, group.format, row), sum, sum.lse2());
    } else {
      write_output(params, v, row, item.kv_head, sum, sum.lse2());
    }
  }
}

/// Phase 2: the merges of all configurations.
template <AttentionVariant V>
__device__ __forceinline__ void merge_partials(const KernelParams& params, const typename V::Mask& mask,
                                               const typename V::Params& variant_params) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const V v = make_variant<V>(mask, variant_params);
  for (int32_t c = 0; c < params.num_configs; ++c) {
    const ScheduleView& schedule = params.plan.schedules[c];
    const int32_t count = *schedule.num_merges;
    for (int32_t i = static_cast<int32_t>(blockIdx.x); i < count; i += static_cast<int32_t>(gridDim.x)) {
      merge_item(params, v, schedule.merges[i]);
    }
  }
}

/// A query token's level states for one head, in level order.
template <class V>
__device__ __forceinline__ void compose_row(const KernelParams& params, const V& v, const ComposedRow& composed, int32_t qo_head) {
  const Request request = params.plan.requests[composed.request];
  const Row row{.token = composed.row,
                .request = composed.request,
                .q_pos = composed.q_pos,
                .col_end = 0,
                .qo_idx = composed.row - request.qo_begin,
                .qo_head = qo_head,
                .qo_len = request.qo_len,
                .kv_len = request.kv_len};
  // The n-th set bit of the mask is the n-th level.
  const auto index = [&](int32_t n) {
    uint32_t levels = composed.level_mask;
    for (int32_t skip = 0; skip < n; ++skip) {
      levels &= levels - 1;
    }
    return level_index(params, __ffs(static_cast<int32_t>(levels)) - 1, row);
  };
  const StateSum<V, decltype(index)> sum(params.partial, index, __popc(composed.level_mask), params.head_dim_vo);
  write_output(params, v, row, qo_head / params.group_size, sum, sum.lse2());
}

/// Phase 3, with several formats: all composed rows.
template <AttentionVariant V>
__device__ __forceinline__ void compose_levels(const KernelParams& params, const typename V::Mask& mask,
                                               const typename V::Params& variant_params) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const V v = make_variant<V>(mask, variant_params);
  for (int32_t i = static_cast<int32_t>(blockIdx.x); i < *params.plan.num_composed; i += static_cast<int32_t>(gridDim.x)) {
    for (int32_t head = static_cast<int32_t>(threadIdx.x / 32); head < params.num_qo_heads; head += kWarps) {
      compose_row(params, v, params.plan.composed[i], head);
    }
  }
}

}  // namespace fovea::cuda::merge
