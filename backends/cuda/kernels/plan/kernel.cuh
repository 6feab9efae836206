// The planner: a block for every mask group, and blocks that write requests and groups, in one launch that nothing joins but its end.
#pragma once

#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/kernels/plan/block.cuh"
#include "backends/cuda/kernels/plan/params.h"
#include "portable/planner.h"

namespace fovea::cuda::plan {

enum class Batches { general, simple, small };

/// Blocks: masks first, then those that write the batch.
template <Batches kBatches>
__device__ __forceinline__ void plan(const PlannerParams& params, int32_t shared_bytes) {
  extern __shared__ __align__(16) char shared[];
  Block block(shared);
  PlannerState& state = *reinterpret_cast<PlannerState*>(shared + kBlockBytes);
  reset_state(block, state);
  ptx::wait_for_previous_grid();
  const int32_t index = static_cast<int32_t>(blockIdx.x), num_blocks = static_cast<int32_t>(gridDim.x);
  const PlannerScratch scratch{shared + kArraysAt, shared_bytes - kArraysAt,
                               params.scratch + min_(index, params.num_masks - 1) * params.scratch_bytes};
  if constexpr (kBatches == Batches::general) {
    plan_general(block, params, state, scratch, index, num_blocks);
  } else {
    plan_simple<kBatches == Batches::small>(block, params, state, scratch, index, num_blocks);
  }
  // Order: kernels that follow read plans as soon as they start, see ReadEarly.
  __threadfence();
  __syncthreads();
  ptx::let_next_grid_start();
}

}  // namespace fovea::cuda::plan
