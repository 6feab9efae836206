// What a GPU can do at most: reading memory in order, and multiplying 16-bit matrices with mma.sync. And random numbers to do it with.
#pragma once

#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/device/ptx/mma.cuh"
#include "portable/compat.h"

namespace fovea::cuda::probe {

inline constexpr int32_t kReadUnroll = 8;

/// All of `num_pieces` pieces of 16 bytes, in order, eight at a time in every thread.
__device__ __forceinline__ void read_in_order(const uint4* from, int64_t num_pieces, uint32_t* never) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  uint32_t bits = 0;
  const auto load = [&](int64_t at) {
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(from + at));
    return x;
  };
  int64_t at = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; at + (kReadUnroll - 1) * stride < num_pieces; at += kReadUnroll * stride) {
    uint4 x[kReadUnroll];
#pragma unroll
    for (int32_t i = 0; i < kReadUnroll; ++i) {
      x[i] = load(at + i * stride);
    }
#pragma unroll
    for (int32_t i = 0; i < kReadUnroll; ++i) {
      bits |= x[i].x ^ x[i].y ^ x[i].z ^ x[i].w;
    }
  }
  for (; at < num_pieces; at += stride) {
    bits |= load(at).x;
  }
  if (bits == 0) {  // random numbers are not all zero: keeps the loads
    *never = 1;
  }
}

inline constexpr int32_t kMultiplyChains = 8;

/// `steps` times kMultiplyChains products of 16 x 16 by 16 x 8 bf16 matrices in every warp, all in registers.
__device__ __forceinline__ void multiply_bf16(int32_t steps, uint32_t seed, float* never) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
  const auto random = [&](uint32_t i) {  // pairs of bf16 with magnitudes in [0.5, 2)
    const uint32_t z = (thread * 2654435761u + i + seed) * 2246822519u;
    return ((z ^ (z >> 13)) & 0x80ff80ffu) | 0x3f003f00u;
  };
  uint32_t a[2][4], b[kMultiplyChains][2];
  float d[kMultiplyChains][4] = {};
#pragma unroll
  for (int32_t i = 0; i < 4; ++i) {
    a[0][i] = random(i);
    a[1][i] = random(i + 4);
  }
#pragma unroll
  for (int32_t c = 0; c < kMultiplyChains; ++c) {
    b[c][0] = random(2 * c + 8);
    b[c][1] = random(2 * c + 9);
  }
#pragma unroll 4
  for (int32_t step = 0; step < steps; ++step) {
#pragma unroll
    for (int32_t c = 0; c < kMultiplyChains; ++c) {
      ptx::multiply_add<DType::bf16>(d[c], a[c % 2], b[c][0], b[c][1]);
    }
  }
  float sum = 0;
#pragma unroll
  for (int32_t c = 0; c < kMultiplyChains; ++c) {
    sum += d[c][0] + d[c][1] + d[c][2] + d[c][3];
  }
  if (sum == 12345.0f) {
    *never = sum;
  }
}

/// Word i is (random bits of (seed, i) & keep) | set: elements whose exponents are near 1.
__device__ __forceinline__ void fill_random(uint64_t* words, int64_t num_words, uint64_t seed, uint64_t keep, uint64_t set) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < num_words;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    uint64_t z = seed * 0xd1342543de82ef95ull + static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    words[i] = ((z ^ (z >> 31)) & keep) | set;
  }
}

}  // namespace fovea::cuda::probe
