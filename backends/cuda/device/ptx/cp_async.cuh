// Asynchronous copies from global to shared memory (sm_80 and newer), and the groups that are waited for.
#pragma once

#include "portable/compat.h"

namespace fovea::ptx {

/// Address of shared memory as instructions take it.
__device__ __forceinline__ uint32_t shared_address(const void* shared) { return static_cast<uint32_t>(__cvta_generic_to_shared(shared)); }

/// 16 bytes past L1. The first `num_bytes` (0..16) are read, the rest is zero. Both addresses are multiples of 16.
__device__ __forceinline__ void copy_16(uint32_t shared, const void* global, int32_t num_bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global), "r"(num_bytes) : "memory");
}

/// 4 bytes; none are read and zero is written when `num_bytes` is 0.
__device__ __forceinline__ void copy_4(uint32_t shared, const void* global, int32_t num_bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared), "l"(global), "r"(num_bytes) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most `kPending` of this thread's latest groups are on their way.
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace fovea::ptx
