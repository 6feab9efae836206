// The copy unit of sm_90 and newer (TMA): boxes of tensors and plain runs of bytes, between global and shared memory, told of by an
// mbarrier. One thread issues a copy for all. Perf: inside `if (elect_one())`, with operands that are the same in the whole warp, a copy
// takes its thread 42 clocks, and 128 inside a loop under `if (lane == 0)` (H200, 2026-11-22).
#pragma once

#include "portable/compat.h"

namespace fovea::ptx {

/// A CUtensorMap, made by the host, in a kernel's parameters (const __grid_constant__).
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

/// How long lines shall stay in L2.
inline constexpr uint64_t kEvictFirst = 0x12f0000000000000;
inline constexpr uint64_t kEvictNormal = 0x1000000000000000;
inline constexpr uint64_t kEvictLast = 0x14f0000000000000;

/// True in one lane of the warp, all of whose lanes are here; the compiler knows that it is one.
__device__ __forceinline__ bool elect_one() {
  int32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.b32 %0, 1, 0, p;\n"
      "}"
      : "=r"(elected));
  return elected != 0;
}

__device__ __forceinline__ void prefetch_tensor_map(const TensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
}

/// The box at these coordinates (innermost first) to shared memory; elements outside the tensor become zeros. All bytes of the box count
/// towards `barrier`.
__device__ __forceinline__ void load_box(uint32_t shared, const TensorMap& map, uint32_t barrier, uint64_t policy, int32_t c0, int32_t c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%4, %5}], [%2], %3;" ::
          "r"(shared),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(barrier), "l"(policy), "r"(c0), "r"(c1)
      : "memory");
}
__device__ __forceinline__ void load_box(uint32_t shared, const TensorMap& map, uint32_t barrier, uint64_t policy, int32_t c0, int32_t c1,
                                         int32_t c2, int32_t c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%4, %5, %6, %7}], [%2], "
      "%3;" ::"r"(shared),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(barrier), "l"(policy), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
__device__ __forceinline__ void load_box(uint32_t shared, const TensorMap& map, uint32_t barrier, uint64_t policy, int32_t c0, int32_t c1,
                                         int32_t c2, int32_t c3, int32_t c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%4, %5, %6, %7, %8}], "
      "[%2], %3;" ::"r"(shared),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(barrier), "l"(policy), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}

/// The box on its way into L2.
__device__ __forceinline__ void prefetch_box(const TensorMap& map, int32_t c0, int32_t c1, int32_t c2, int32_t c3) {
  asm volatile("cp.async.bulk.prefetch.tensor.4d.L2.global.tile [%0, {%1, %2, %3, %4}];" ::"l"(reinterpret_cast<uint64_t>(&map)), "r"(c0),
               "r"(c1), "r"(c2), "r"(c3)
               : "memory");
}

/// The same into the same place of every CTA of the cluster whose bit is set; each one's own barrier gets the bytes.
__device__ __forceinline__ void load_box_into_cluster(uint32_t shared, const TensorMap& map, uint32_t barrier, uint16_t ctas, int32_t c0,
                                                      int32_t c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4, %5}], [%2], "
      "%3;" ::"r"(shared),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(barrier), "h"(ctas), "r"(c0), "r"(c1)
      : "memory");
}

/// A box of shared memory to a tensor. Done in the group committed next.
__device__ __forceinline__ void store_box(const TensorMap& map, uint32_t shared, int32_t c0, int32_t c1) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(reinterpret_cast<uint64_t>(&map)),
               "r"(shared), "r"(c0), "r"(c1)
               : "memory");
}

/// `num_bytes` from global to shared memory; addresses and number are multiples of 16.
__device__ __forceinline__ void load_bytes(uint32_t shared, const void* global, uint32_t num_bytes, uint32_t barrier, uint64_t policy) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(shared),
               "l"(global), "r"(num_bytes), "r"(barrier), "l"(policy)
               : "memory");
}

__device__ __forceinline__ void store_bytes(void* global, uint32_t shared, uint32_t num_bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(global), "r"(shared), "r"(num_bytes) : "memory");
}

__device__ __forceinline__ void commit_bulk_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

/// Shared memory of all but the latest kPending groups has been read.
template <int kPending>
__device__ __forceinline__ void wait_for_bulk_reads() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}
/// All but the latest kPending groups are done.
template <int kPending>
__device__ __forceinline__ void wait_for_bulk_stores() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace fovea::ptx
