// CTAs of a cluster (sm_90 and newer): barriers between them, and each other's shared memory.
#pragma once

#include "portable/compat.h"

namespace fovea::ptx {

__device__ __forceinline__ int32_t cluster_cta() {
  int32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ int32_t cluster_ctas() {
  int32_t count;
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(count));
  return count;
}

/// All threads of the cluster: what was written before arriving can be read after waiting.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_sync() {
  cluster_arrive();
  cluster_wait();
}

/// Address, in the cluster's window, of what is at shared address `shared` in CTA `cta`.
__device__ __forceinline__ uint32_t cluster_address(uint32_t shared, int32_t cta) {
  uint32_t address;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared), "r"(cta));
  return address;
}

__device__ __forceinline__ uint32_t load_from_cluster(uint32_t address) {
  uint32_t value;
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

/// Arrives at another CTA's barrier. Releases nothing: for stages that the other CTA only writes.
__device__ __forceinline__ void mbarrier_arrive_in_cluster(uint32_t address) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address) : "memory");
}

/// 16 bytes into another CTA's shared memory, counted by a barrier there.
__device__ __forceinline__ void store_into_cluster(uint32_t address, uint4 value, uint32_t barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w), "r"(barrier)
               : "memory");
}

}  // namespace fovea::ptx
