// The planner: a block for every mask group, and blocks that write requests and groups, in one launch that nothing joins but its end.
#pragma once

#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/kernels/plan/block.cuh"
#include "backends/cuda/kernels/plan/params.h"
#include "portable/planner.h"

namespace fovea::cuda::plan {

/// Blocks: masks first, then those that write the batch.
template <bool kSimple>
__device__ __forceinline__ void plan(const PlannerParams& params, int32_t shared_bytes) {
  extern __shared__ __align__(16) char shared[];
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  Block block(shared);
  const int32_t mask = static_cast<int32_t>(blockIdx.x), part = mask - params.num_masks;
  PlannerScratch scratch{shared + kTotalsBytes, shared_bytes - kTotalsBytes,
                         params.scratch + min_(mask, params.num_masks - 1) * params.scratch_bytes};
  PlannerState& state = *scratch.take<PlannerState>(1);
  const int32_t parts = static_cast<int32_t>(gridDim.x) - params.num_masks;
  if constexpr (kSimple) {
    if (part < 0) {
      write_schedule(block, params, state, SimpleSource{params.batch}, mask, scratch);
    } else {
      write_simple_batch(block, params, state, part, parts);
    }
  } else {
    if (part < 0) {
      write_schedule(block, params, state, GeneralSource{state.batch}, mask, scratch);
    } else {
      write_batch(block, params, state, part, parts);
    }
  }
}

}  // namespace fovea::cuda::plan
