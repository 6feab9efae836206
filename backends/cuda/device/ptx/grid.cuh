// Programmatic dependent launch (sm_90 and newer; nothing on older): a kernel starts while the one before it ends, and waits before it
// reads.
#pragma once

#include "portable/compat.h"

namespace fovea::ptx {

/// threadIdx.x, read anew every time: what follows from it needn't stay in registers.
__device__ __forceinline__ uint32_t thread_index() {
  uint32_t index;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
  return index;
}

/// x, of which the compiler knows nothing.
__device__ __forceinline__ uint32_t opaque(uint32_t x) {
  asm volatile("" : "+r"(x));
  return x;
}

/// Reads a part of a kernel's parameters, so that they are in the multiprocessor's cache of constants when they are needed.
__device__ __forceinline__ void touch_params(const void* begin, const void* end) {
  constexpr int32_t kLineBytes = 64;
#pragma unroll 8
  for (const char* at = static_cast<const char*>(begin); at < end; at += kLineBytes) {
    const uint32_t word = *reinterpret_cast<const uint32_t*>(at);
    asm volatile("" ::"r"(word));
  }
}

/// Returns when the kernels this one depends on have ended and their writes can be seen.
__device__ __forceinline__ void wait_for_previous_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel start as soon as there is room for it.
__device__ __forceinline__ void let_next_grid_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

}  // namespace fovea::ptx
