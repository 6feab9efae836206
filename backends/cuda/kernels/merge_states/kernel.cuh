// merge_states: n states of the same rows and heads. One warp a row; a row is written after it has been read from every state: `out` may be
// one of them.
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/kernels/merge_states/params.h"

namespace fovea::cuda::merge_states {

__device__ __forceinline__ void merge_row(const Params& params, int32_t token, int32_t head) {
  const auto lse_of = [&](int32_t s) {
    const Params::In& in = params.states[s];
    return in.lse[token * in.lse_token_stride + head * in.lse_head_stride];
  };
  float top = -math::infinity<float>();
  for (int32_t s = 0; s < params.num_states; ++s) {
    top = max_(top, lse_of(s));
  }
  float total = 0.0f;
  for (int32_t s = 0; s < params.num_states; ++s) {
    total += lse_of(s) == -math::infinity<float>() ? 0.0f : math::exp(lse_of(s) - top);
  }
  const float share = total == 0.0f ? 0.0f : 1.0f / total;  // NaN comes out: it is no empty state
  for (int32_t d = static_cast<int32_t>(threadIdx.x % 32); d < params.head_dim; d += 32) {
    float sum = 0.0f;
    for (int32_t s = 0; s < params.num_states; ++s) {
      const float lse = lse_of(s);
      if (lse != -math::infinity<float>()) {  // an empty state weighs nothing, whatever its o
        const QView& o = params.states[s].o;
        sum += math::exp(lse - top) * to_float(o.dtype, o.data, token * o.token_stride + head * o.head_stride + d);
      }
    }
    store_element(params.out.dtype, params.out.o, token * params.out.token_stride + head * params.out.head_stride + d, sum * share);
  }
  __syncwarp();  // Order: every lane has read lse before it is written
  if (threadIdx.x % 32 == 0 && params.out.lse != nullptr) {
    params.out.lse[token * params.out.lse_token_stride + head * params.out.lse_head_stride] =
        total == 0.0f ? -math::infinity<float>() : top + math::log(total);
  }
}

__device__ __forceinline__ void merge(const Params& params) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const int64_t count = static_cast<int64_t>(params.num_tokens) * params.num_heads;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; i < count; i += step) {
    const int32_t token = static_cast<int32_t>(i / params.num_heads);
    merge_row(params, token, static_cast<int32_t>(i - static_cast<int64_t>(token) * params.num_heads));
  }
}

}  // namespace fovea::cuda::merge_states
