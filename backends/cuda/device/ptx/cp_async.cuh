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

/// All 16 bytes: an instruction, where the above is ten.
__device__ __forceinline__ void copy_16(uint32_t shared, uint64_t global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}

/// 16 zeros into shared memory.
__device__ __forceinline__ void store_zeros_16(uint32_t shared) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(shared), "r"(0) : "memory");
}

/// 4 bytes of shared memory.
__device__ __forceinline__ int32_t load_shared_4(uint32_t shared) {
  int32_t x;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(x) : "r"(shared) : "memory");
  return x;
}

/// 8 bytes of shared memory.
__device__ __forceinline__ uint64_t load_shared_8(uint32_t shared) {
  uint64_t x;
  asm volatile("ld.shared.b64 %0, [%1];" : "=l"(x) : "r"(shared) : "memory");
  return x;
}

/// 16 bytes of shared memory.
__device__ __forceinline__ int4 load_shared_16(uint32_t shared) {
  int4 x;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];" : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "r"(shared) : "memory");
  return x;
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
