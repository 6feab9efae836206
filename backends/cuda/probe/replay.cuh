// What a replay does on the GPU beside the engine's calls: queries, keys and values from the tokens' hashes, the same bits that
// serving/values.cc makes, and digests of outputs, the same numbers as serving/digest.h.
#pragma once

#include "backends/cuda/device/ptx/grid.cuh"
#include "portable/compat.h"

namespace fovea::cuda::probe {

__device__ __forceinline__ uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
__device__ __forceinline__ uint64_t mix(uint64_t a, uint64_t b) { return mix(mix(a + 0x9e3779b97f4a7c15ull) + b); }

__device__ __forceinline__ uint32_t mix32(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

/// One tensor of a layer, bf16 [tokens, heads, dim]; dim is a multiple of 4. A thread makes four adjacent values.
__device__ __forceinline__ void fill_values(const uint64_t* token_hashes, uint64_t key, int32_t num_tokens, int32_t heads, int32_t dim,
                                            uint2* out) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const int32_t quads = dim / 4;
  const int64_t count = static_cast<int64_t>(num_tokens) * heads * quads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    const int64_t row = i / quads;
    const uint32_t first = 4 * static_cast<uint32_t>(i - row * quads);
    const int64_t token = row / heads;
    const uint64_t start = mix(token_hashes[token] ^ key, static_cast<uint64_t>(row - token * heads));
    const uint32_t low = static_cast<uint32_t>(start), high = static_cast<uint32_t>(start >> 32);
    // 64 values are 16 words; byte b of word w is value 16 b + w.
    const uint32_t piece = first / 64 * 16, shift = first % 64 / 16 * 8, word = first % 16;
    uint32_t bits[4];
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t mixed = mix32(low + (piece + word + j) * 0x9e3779b9u) ^ high;
      bits[j] = __float_as_uint(static_cast<float>(static_cast<int8_t>(mixed >> shift)) * 0x1p-6f) >> 16;
    }
    out[i] = uint2{bits[0] | bits[1] << 16, bits[2] | bits[3] << 16};
  }
}

/// Adds the digests of rows of `row_words` words of 8 bytes to *sum. A CTA takes a row at a time.
__device__ __forceinline__ void digest_rows(const uint64_t* rows, int32_t num_rows, int32_t row_words, uint64_t key, uint64_t* sum) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  uint64_t mine = 0;
  for (int32_t row = static_cast<int32_t>(blockIdx.x); row < num_rows; row += static_cast<int32_t>(gridDim.x)) {
    const uint64_t place = mix(key, static_cast<uint64_t>(row));
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < row_words; i += static_cast<int32_t>(blockDim.x)) {
      mine += mix(rows[static_cast<int64_t>(row) * row_words + i] ^ (place + static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15ull));
    }
  }
#pragma unroll
  for (int32_t step = 16; step > 0; step /= 2) {
    mine += __shfl_xor_sync(~0u, mine, step);
  }
  if (threadIdx.x % 32 == 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(sum), mine);
  }
}

}  // namespace fovea::cuda::probe
