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

// ---- Partial states ---------------------------------------------------------------------------------------------------------------------

inline constexpr int32_t kStatesAtOnce = 8;  // of a warp; a row of more partial states is shared out over the CTA's warps
inline constexpr int32_t kColumnsAtOnce = 128;

/// As many of four as there are.
__device__ __noinline__ float4 load_four_slowly(const float* o, int32_t count) {
  return {o[0], count > 1 ? o[1] : 0.0f, count > 2 ? o[2] : 0.0f, count > 3 ? o[3] : 0.0f};
}

/// What the warps of a CTA tell each other of a row.
struct MergeShared {
  float weights[kWarps][kMaxWeights];
  float sums[kWarps][kColumnsAtOnce];
};

/// The partial states of a packed row, those of [begin, end) for this warp. Their first ones are asked for before anything is known of
/// their weights.
template <class V>
struct PartialStates {
  const PartialView& partial;
  float* weights;
  int64_t first;  // row of the first state
  int32_t count, begin, end, head_dim;
  float4 x[kStatesAtOnce];
  float top, total;

  __device__ __forceinline__ PartialStates(const KernelParams& params, const MergeItem& item, int32_t p, bool shared_out,
                                           MergeShared& shared)
      : partial(params.partial), count(item.num_slots), head_dim(params.head_dim_vo), top(-math::infinity<float>()), total(1.0f) {
    const int32_t warp = static_cast<int32_t>(threadIdx.x / 32), lane = static_cast<int32_t>(threadIdx.x % 32);
    const int32_t each = shared_out ? ceil_div(count, kWarps) : count;
    weights = shared.weights[warp];
    first = static_cast<int64_t>(item.slot_begin) * partial.rows_per_slot + (p - item.row_begin);
    begin = shared_out ? min_(warp * each, count) : 0;
    end = min_(begin + each, count);
    if constexpr (V::use_softmax) {
      const float lse2 = lane < count ? lse2_of(lane) : -math::infinity<float>();
      load(begin, 4 * lane);
      weigh(lse2);
    } else {
      load(begin, 4 * lane);
    }
  }
  __device__ __forceinline__ float lse2() const {
    return !V::use_softmax ? 0.0f : total == 0.0f ? -math::infinity<float>() : top + math::log2(total);
  }
  __device__ __forceinline__ float factor() const { return !V::use_softmax ? 1.0f : total == 0.0f ? 0.0f : ptx::reciprocal_approx(total); }
  /// The weighted sum of columns d .. d + 3 over this warp's states.
  __device__ __forceinline__ float4 sum(int32_t d) {
    float4 sum{0.0f, 0.0f, 0.0f, 0.0f};
    for (int32_t s = begin; s < end; s += kStatesAtOnce) {
      if (s > begin || d >= kColumnsAtOnce) {
        load(s, d);
      }
#pragma unroll
      for (int32_t i = 0; i < kStatesAtOnce; ++i) {
        const float w = s + i < end ? weight(s + i) : 0.0f;
        if (w != 0.0f) {  // what an empty state holds is not looked at
          sum.x += w * x[i].x;
          sum.y += w * x[i].y;
          sum.z += w * x[i].z;
          sum.w += w * x[i].w;
        }
      }
    }
    return sum;
  }

 private:
  __device__ __forceinline__ int64_t row_of(int32_t s) const { return first + static_cast<int64_t>(s) * partial.rows_per_slot; }
  __device__ __forceinline__ float lse2_of(int32_t s) const { return partial.lse2[row_of(s)]; }
  __device__ __forceinline__ void load(int32_t s, int32_t d) {
#pragma unroll
    for (int32_t i = 0; i < kStatesAtOnce; ++i) {
      x[i] = {0.0f, 0.0f, 0.0f, 0.0f};
      if (s + i < end && d < head_dim) {
        const float* o = partial.o + row_of(s + i) * head_dim + d;
        x[i] = head_dim % 4 == 0 ? *reinterpret_cast<const float4*>(o) : load_four_slowly(o, head_dim - d);
      }
    }
  }
  __device__ __forceinline__ float computed_weight(float lse2) const {
    return lse2 == -math::infinity<float>() ? 0.0f : math::exp2(lse2 - top);  // NaN comes out: it is no empty state
  }
  __device__ __forceinline__ float weight(int32_t s) const {
    if constexpr (V::use_softmax) {
      return s < kMaxWeights ? weights[s] : computed_weight(lse2_of(s));
    } else {
      return 1.0f;
    }
  }
  /// `mine`: lse2 of state `lane`. The same in every warp, whichever states are its own.
  __device__ __forceinline__ void weigh(float mine) {
    const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
    top = mine;
    for (int32_t s = lane + 32; s < count; s += 32) {
      top = max_(top, lse2_of(s));
    }
    for (int32_t step = 16; step > 0; step /= 2) {
      top = max_(top, __shfl_xor_sync(0xffffffffu, top, step));
    }
    __syncwarp();  // Order: the row before is done with the weights
    total = 0.0f;
    for (int32_t s = lane; s < count; s += 32) {
      const float w = computed_weight(s < 32 ? mine : lse2_of(s));
      total += w;
      if (s < kMaxWeights) {
        weights[s] = w;
      }
    }
    for (int32_t step = 16; step > 0; step /= 2) {
      total += __shfl_xor_sync(0xffffffffu, total, step);
    }
    __syncwarp();
  }
};

/// Packed row p of a unit that was cut; by all warps when it is shared out, else by one.
template <class V>
__device__ __forceinline__ void merge_row(const KernelParams& params, const V& v, const MergeItem& item, const RowGroup& group,
                                          const Row& row, int32_t p, bool shared_out, MergeShared& shared) {
  PartialStates<V> states(params, item, p, shared_out, shared);
  const int32_t warp = static_cast<int32_t>(threadIdx.x / 32), lane = static_cast<int32_t>(threadIdx.x % 32);
  const float factor = states.factor(), lse2 = states.lse2();
  const RowTarget target = params.num_formats > 1 ? target_of_partial(params, level_index(params, group.format, row), lse2)
                                                  : target_of_output(params, v, row, item.kv_head, lse2);
  const Position<> at = position_of(row, item.kv_head, 0);
  const int32_t head_dim = params.head_dim_vo;
  if (lane == 0 && (!shared_out || warp == 0)) {
    write_lse(target);
  }
  for (int32_t d = 4 * lane; d - 4 * lane < head_dim; d += kColumnsAtOnce) {
    float4 sum = states.sum(d);
    if (shared_out) {
      __syncthreads();  // Order: the columns before are read
      *reinterpret_cast<float4*>(&shared.sums[warp][4 * lane]) = sum;
      __syncthreads();
      if (warp != 0) {
        continue;
      }
#pragma unroll
      for (int32_t w = 1; w < kWarps; ++w) {
        const float4 other = *reinterpret_cast<const float4*>(&shared.sums[w][4 * lane]);
        sum = {sum.x + other.x, sum.y + other.y, sum.z + other.z, sum.w + other.w};
      }
    }
    if (d < head_dim) {
      write_four(target, v, at, d, head_dim, float4{sum.x * factor, sum.y * factor, sum.z * factor, sum.w * factor});
    }
  }
}

/// Rows [begin, begin + num_rows) of a merge, at most kWarps of them.
template <class V>
__device__ __forceinline__ void merge_rows(const KernelParams& params, const V& v, const MergeItem& item, int32_t begin, int32_t num_rows,
                                           MergeShared& shared, bool& waited) {
  const int32_t warp = static_cast<int32_t>(threadIdx.x / 32);
  const bool shared_out = item.num_slots > kStatesAtOnce;
  const RowGroup group = ReadEarly()(params.plan.groups + item.row_group);
  const int32_t end = min_(begin + num_rows, item.row_end);
  const int32_t first = shared_out ? begin : begin + warp;
  Row row = make_row(params, group, item.kv_head, min_(first, item.row_end - 1), ReadEarly());
  if (!waited) {
    ptx::wait_for_previous_grid();
    waited = true;
  }
#pragma unroll 1
  for (int32_t p = first; p < end; p += shared_out ? 1 : kWarps) {
    if (p > first) {
      row = make_row(params, group, item.kv_head, p, ReadEarly());
    }
    merge_row(params, v, item, group, row, p, shared_out, shared);
  }
}

/// Phase 2: the merges of all configurations.
template <AttentionVariant V>
__device__ __forceinline__ void merge_partials(const KernelParams& params, const typename V::Mask& mask,
                                               const typename V::Params& variant_params) {
  __shared__ MergeShared shared;
  ptx::let_next_grid_start();
  const V v = make_variant<V>(mask, variant_params);
  bool waited = false;
  int32_t counts[kMaxKernelConfigs];
#pragma unroll
  for (int32_t c = 0; c < kMaxKernelConfigs; ++c) {
    counts[c] = c < params.num_configs ? __ldcg(params.plan.schedules[c].num_merges) : 0;
  }
#pragma unroll 1
  for (int32_t c = 0; c < params.num_configs; ++c) {
    const int32_t count = counts[c];
    // Where there are few rows each has a CTA of its own. Who merges a row says nothing about how.
    const int32_t quads = ceil_div(params.configs[c].tile_q, kWarps);
    const int32_t num_rows = count * quads * kWarps <= 2 * static_cast<int32_t>(gridDim.x) ? 1 : kWarps;
    const int32_t num_pieces = count * quads * (kWarps / num_rows);
    for (int32_t i = static_cast<int32_t>(blockIdx.x); i < num_pieces; i += static_cast<int32_t>(gridDim.x)) {
      const int32_t share = i / count;
      const MergeItem item = ReadEarly()(params.plan.schedules[c].merges + (i - share * count));
      const int32_t begin = item.row_begin + share * num_rows;
      if (begin < item.row_end) {
        merge_rows(params, v, item, begin, num_rows, shared, waited);
      }
    }
  }
  if (!waited && blockIdx.x == 0) {  // who comes after this kernel relies on what is in front of it
    ptx::wait_for_previous_grid();
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
