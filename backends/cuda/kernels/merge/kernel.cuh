// Merging: partial states of cut units, then level states of composed rows. One warp a row; states in a fixed order, so that the bits never
// depend on who ran when. Launched after the attention kernels of a run.
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/device/ptx/grid.cuh"

namespace fovea::cuda::merge {

inline constexpr int32_t kWarps = 4;

inline constexpr int32_t kMaxWeights = 256;  // of a row, kept; those of further states are computed again

/// Weights of a warp's row, in shared memory.
__device__ __forceinline__ float* weights_of_warp() {
  __shared__ float weights[kWarps][kMaxWeights];
  return weights[threadIdx.x / 32];
}

/// Sums states at rows index(0) .. index(count - 1) of the partial states: o(d) = sum of weight * o, weights from lse. Lanes look up the
/// weights of 32 states at once; all of them construct it.
template <class V, class Index>
struct StateSum {
  const PartialView& partial;
  const Index& index;
  int32_t count, head_dim;
  float* weights;
  float top, total, factor;

  __device__ __forceinline__ StateSum(const PartialView& p, const Index& i, int32_t n, int32_t dim)
      : partial(p),
        index(i),
        count(n),
        head_dim(dim),
        weights(weights_of_warp()),
        top(-math::infinity<float>()),
        total(0.0f),
        factor(1.0f) {
    if constexpr (V::use_softmax) {
      const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
      for (int32_t s = lane; s < count; s += 32) {
        top = max_(top, partial.lse2[index(s)]);
      }
      for (int32_t step = 16; step > 0; step /= 2) {
        top = max_(top, __shfl_xor_sync(0xffffffffu, top, step));
      }
      __syncwarp();  // Order: the row before is done with the weights
      for (int32_t s = lane; s < count; s += 32) {
        const float w = computed_weight(s);
        total += w;
        if (s < kMaxWeights) {
          weights[s] = w;
        }
      }
      for (int32_t step = 16; step > 0; step /= 2) {
        total += __shfl_xor_sync(0xffffffffu, total, step);
      }
      __syncwarp();
      factor = total == 0.0f ? 0.0f : ptx::reciprocal_approx(total);
    }
  }
  __device__ __forceinline__ float computed_weight(int32_t s) const {
    const float lse2 = partial.lse2[index(s)];
    return lse2 == -math::infinity<float>() ? 0.0f : math::exp2(lse2 - top);  // NaN comes out: it is no empty state
  }
  __device__ __forceinline__ float weight(int32_t s) const {
    if constexpr (V::use_softmax) {
      return s < kMaxWeights ? weights[s] : computed_weight(s);
    } else {
      return 1.0f;
    }
  }
  __device__ __forceinline__ float lse2() const {
    return !V::use_softmax ? 0.0f : total == 0.0f ? -math::infinity<float>() : top + math::log2(total);
  }
  __device__ __forceinline__ float operator()(int32_t d) const {
    float sum = 0.0f;
#pragma unroll 8
    for (int32_t s = 0; s < count; ++s) {
      const float w = weight(s);
      const float x = partial.o[index(s) * head_dim + d];
      sum += w == 0.0f ? 0.0f : w * x;
    }
    return sum * factor;
  }
};

/// Packed row p of a unit that was cut.
template <class V>
__device__ __forceinline__ void merge_row(const KernelParams& params, const V& v, const MergeItem& item, int32_t p) {
  const RowGroup group = params.plan.groups[item.row_group];
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
    // A unit has many rows or few: its rows are shared out, kWarps to a CTA.
    const int32_t shares = ceil_div(params.configs[c].tile_q, kWarps);
    for (int32_t i = static_cast<int32_t>(blockIdx.x); i < count * shares; i += static_cast<int32_t>(gridDim.x)) {
      const int32_t n = i / shares;
      const MergeItem item = schedule.merges[n];
      const int32_t p = item.row_begin + (i - n * shares) * kWarps + static_cast<int32_t>(threadIdx.x / 32);
      if (p < item.row_end) {
        merge_row(params, v, item, p);
      }
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
