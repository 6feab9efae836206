// attention_sm90_decode: few packed rows (decode, verification of drafts) on Hopper. A CTA is a worker of two warpgroups:
//   load:   kv tiles by boxes of tensor maps, one page each, or token by token -> ring of `stages` tiles
//   attend: rows and queries -> per tile: s = k . q, mask and hooks, weights, o += v . weights -> output or state
#pragma once

#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/device/ptx/registers.cuh"
#include "backends/cuda/kernels/attention_sm90_decode/attend.cuh"

namespace fovea::cuda::attention_sm90_decode {

template <Config C, AttentionVariant V>
__device__ __forceinline__ void attention(const KernelParams& params, const typename V::Mask& mask,
                                          const typename V::Params& variant_params, int32_t config, const Maps<C.num_formats>& maps) {
  static_assert(!HasTransformQuery<V> && !HasTransformKey<V> && !HasTransformValue<V>,
                "this kernel has no transforms of rows; see select.cc");
  static_assert(C.tile_q % 8 == 0 && C.tile_q <= kMaxTileQ, "packed rows are columns of a wgmma, 8 to 64; see select.cc");
  static_assert(C.head_dim_qk % 16 == 0 && C.head_dim_vo % 16 == 0, "head dims are rounded up to multiples of 16; see select.cc");
  static_assert(C.stages <= kPagesAhead && kPagesAhead < kPageTiles, "page ids are there when a stage is loaded again; see layout.h");
  static_assert(row_of(C.k).bits == row_of(C.v).bits && (is_narrow(C) || (C.q == C.k && C.v == C.k)), "see select.cc");
  extern __shared__ __align__(1024) char shared[];
  ptx::let_next_grid_start();
  if (threadIdx.x == 0) {
    initialise_barriers<C>(shared);
  }
  if (threadIdx.x == kAttendThreads) {
    for (int32_t f = 0; f < C.num_formats; ++f) {
      if (maps.formats[f].box_rows > 0) {
        ptx::prefetch_tensor_map(reinterpret_cast<const ptx::TensorMap&>(maps.formats[f].k));
        ptx::prefetch_tensor_map(reinterpret_cast<const ptx::TensorMap&>(maps.formats[f].v));
      }
    }
  }
  __syncthreads();
  if (threadIdx.x >= kThreads - 32) {
    ptx::touch_params(&params, params.kv + C.num_formats);
    ptx::touch_params(params.configs, &params + 1);
  }
  if (threadIdx.x >= kAttendThreads) {
    if constexpr (C.ctas > 1) {
      ptx::give_registers<load_registers(C)>();
    }
    load<C>(params, maps, config, shared);
  } else {
    if constexpr (C.ctas > 1) {
      ptx::take_registers<attend_registers(C)>();
    }
    attend<C>(params, maps, make_variant<V>(mask, variant_params), mask, shared);
  }
}

}  // namespace fovea::cuda::attention_sm90_decode
