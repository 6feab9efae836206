// Barriers in shared memory that count arrivals and bytes (sm_90 and newer). A phase ends when `count` threads have arrived and all
// expected bytes are there; phases are told apart by their parity, and the first has parity 0. Addresses are those of shared_address().
#pragma once

#include "portable/compat.h"

namespace fovea::ptx {

/// One thread. Visible to others behind fence_mbarrier_init() and a barrier.
__device__ __forceinline__ void mbarrier_init(uint32_t barrier, int32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

/// Makes initialised barriers known to bulk copies and to the other CTAs of a cluster.
__device__ __forceinline__ void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void mbarrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// As `count` threads.
__device__ __forceinline__ void mbarrier_arrive(uint32_t barrier, int32_t count) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

/// The phase shall also wait for `num_bytes` (below 2^20 in all) of bulk copies.
__device__ __forceinline__ void mbarrier_expect_bytes(uint32_t barrier, uint32_t num_bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(num_bytes) : "memory");
}

__device__ __forceinline__ void mbarrier_arrive_and_expect(uint32_t barrier, uint32_t num_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(num_bytes) : "memory");
}

/// Arrives when all this thread's cp.async so far are done; counts as one of the barrier's arrivals.
__device__ __forceinline__ void mbarrier_arrive_after_copies(uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

/// Has the phase of this parity ended? May sleep a little before it says no.
__device__ __forceinline__ bool mbarrier_try_wait(uint32_t barrier, uint32_t parity) {
  int32_t done;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.b32 %0, 1, 0, p;\n"
      "}"
      : "=r"(done)
      : "r"(barrier), "r"(parity)
      : "memory");
  return done != 0;
}

/// Returns when the phase of this parity has ended. Waiting for parity 1 returns at once on a barrier that was never used.
__device__ __forceinline__ void mbarrier_wait(uint32_t barrier, uint32_t parity) {
  while (!mbarrier_try_wait(barrier, parity)) {
  }
}

}  // namespace fovea::ptx
