// Barriers between some of a CTA's threads, and the fence between ordinary writes to shared memory and units that read it on their own.
#pragma once

#include "portable/compat.h"

namespace fovea::ptx {

/// All `kThreads` threads that name barrier `kId` (1..15) wait for each other. Whole warps.
template <int kId, int kThreads>
__device__ __forceinline__ void barrier_sync() {
  asm volatile("barrier.cta.sync.aligned %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}

/// Counts towards the barrier without waiting.
template <int kId, int kThreads>
__device__ __forceinline__ void barrier_arrive() {
  asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"n"(kId), "n"(kThreads) : "memory");
}

/// barrier_sync() that also says whether `predicate` held in any of the threads.
template <int kId, int kThreads>
__device__ __forceinline__ bool barrier_any(bool predicate) {
  int32_t any;
  asm volatile(
      "{\n"
      ".reg .pred p, q;\n"
      "setp.ne.b32 p, %1, 0;\n"
      "barrier.cta.red.or.pred.aligned q, %2, %3, p;\n"
      "selp.b32 %0, 1, 0, q;\n"
      "}"
      : "=r"(any)
      : "r"(static_cast<int32_t>(predicate)), "n"(kId), "n"(kThreads)
      : "memory");
  return any != 0;
}

/// What this thread wrote to shared memory, or saw written, may be read by wgmma and bulk copies behind the next barrier (sm_90 and newer).
__device__ __forceinline__ void fence_shared_for_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

}  // namespace fovea::ptx
