// load_only: the bytes of K and V that a decoding step has to read, through its page ids, and nothing else: what no attention kernel can
// beat. Every warp copies 512 bytes at a time into a ring of its own in shared memory; nobody looks at them.
#pragma once

#include "backends/cuda/device/ptx/cp_async.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/probe/load_only.h"

namespace fovea::cuda::probe {

/// `kStages` steps of a warp are on their way at once.
template <int32_t kStages>
__device__ __forceinline__ void load_only(const LoadParams& p) {
  extern __shared__ __align__(16) char shared[];
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % 32;
  const int32_t warp = static_cast<int32_t>(threadIdx.x) / 32;
  const int32_t num_warps = static_cast<int32_t>(gridDim.x) * (kLoadThreads / 32);
  const uint32_t ring = ptx::shared_address(shared) + warp * kStages * kLoadStepBytes + 16 * lane;
  int32_t stage = 0;
  const auto copy = [&](const char* from, int32_t num_bytes) {
#pragma unroll 4
    for (int32_t at = 0; at < num_bytes; at += kLoadStepBytes) {
      ptx::copy_16(ring + stage * kLoadStepBytes, from + at + 16 * lane, 16);
      ptx::commit_copies();
      ptx::wait_for_copies<kStages - 1>();
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
  };
  // A lane holds one of the warp's next 32 entries; those after them are on their way meanwhile.
  const auto entry_at = [&](int32_t index) { return index < p.num_entries ? p.entries[index] : LoadEntry{0, 0}; };
  int32_t first = static_cast<int32_t>(blockIdx.x) + warp * static_cast<int32_t>(gridDim.x);
  LoadEntry next = entry_at(first + lane * num_warps);
  while (first < p.num_entries) {
    const LoadEntry mine = next;
    next = entry_at(first + (lane + 32) * num_warps);
    for (int32_t i = 0; i < 32 && first + i * num_warps < p.num_entries; ++i) {
      const int64_t slot = __shfl_sync(~0u, mine.slot, i);
      const int32_t num_tokens = __shfl_sync(~0u, mine.num_tokens, i);
      copy(p.k + slot * p.k_token_bytes, num_tokens * p.k_token_bytes);
      copy(p.v + slot * p.v_token_bytes, num_tokens * p.v_token_bytes);
    }
    first += 32 * num_warps;
  }
  ptx::wait_for_copies<0>();
}

}  // namespace fovea::cuda::probe
