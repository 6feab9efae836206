// 8-bit keys and values on their way into products: the operand a of a wgmma comes from registers, where they become f16.
//   Why: an 8-bit product would round queries and weights to 8 bits as well, and needs v transposed in shared memory. Widening takes
//   an instruction for two elements: a tile of 64 tokens at d128 about 100 clocks of a multiprocessor, which gets such a tile every 900.
// Registers of a may not be rewritten while a product reads them (wgmma.cuh): fragments are in two sets that take turns, and a set is
// written behind the wait that covers its last product. All loops are unrolled.
#pragma once

#include "backends/cuda/device/ptx/barrier.cuh"
#include "backends/cuda/device/ptx/mma.cuh"
#include "backends/cuda/device/ptx/wgmma.cuh"
#include "backends/cuda/kernels/attention_sm90_decode/load.cuh"

namespace fovea::cuda::attention_sm90_decode {

inline constexpr int32_t kItemBarrier = 1, kTileBarrier = 2;

/// Products of a set: registers.
template <Config C>
inline constexpr int32_t kSetFragments = C.tile_q > 48 ? 2 : 4;
template <Config C>
using FragmentSet = uint32_t[kSetFragments<C>][4];

// ---- Queries ----------------------------------------------------------------------------------------------------------------------------

/// 16 elements of a row of queries, two a word, in the order in which fragments of keys have theirs: lane j of four gets 4 j .. 4 j + 3,
/// which a product takes for elements 2 j, 2 j + 1, 2 j + 8, 2 j + 9. Past `head_dim` zeros. 8-bit queries become f16.
template <DType Q>
__device__ __forceinline__ void load_query_words(const void* row, bool aligned, int32_t first, int32_t head_dim, uint32_t (&words)[8]) {
  const auto place = [](int32_t pair) { return pair / 2 + 4 * (pair % 2); };
  if constexpr (row_of(Q).bits == 16) {
    const uint16_t* from = static_cast<const uint16_t*>(row) + first;
    if (aligned) {
      const uint4 low = reinterpret_cast<const uint4*>(from)[0], high = reinterpret_cast<const uint4*>(from)[1];
      words[0] = low.x, words[4] = low.y, words[1] = low.z, words[5] = low.w;
      words[2] = high.x, words[6] = high.y, words[3] = high.z, words[7] = high.w;
      return;
    }
#pragma unroll
    for (int32_t pair = 0; pair < 8; ++pair) {
      const uint32_t lower = first + 2 * pair < head_dim ? from[2 * pair] : 0u;
      const uint32_t upper = first + 2 * pair + 1 < head_dim ? from[2 * pair + 1] : 0u;
      words[place(pair)] = lower | upper << 16;
    }
  } else {
    const uint8_t* from = static_cast<const uint8_t*>(row) + first;
#pragma unroll
    for (int32_t pair = 0; pair < 8; ++pair) {
      const uint32_t lower = first + 2 * pair < head_dim ? from[2 * pair] : 0u;
      const uint32_t upper = first + 2 * pair + 1 < head_dim ? from[2 * pair + 1] : 0u;
      words[place(pair)] = ptx::widen_to_f16<Q>(lower | upper << 8);
    }
  }
}

/// The exponent of the largest finite of two bf16.
__device__ __forceinline__ int32_t exponent_of_pair(uint32_t pair) {
  const int32_t lower = static_cast<int32_t>(pair >> 7 & 0xff), upper = static_cast<int32_t>(pair >> 23 & 0xff);
  return max_(lower == 0xff ? 0 : lower, upper == 0xff ? 0 : upper);
}

/// Queries of an item into shared memory as f16: [chunk of 64 elements][row][128 bytes], swizzled. bf16 reaches further than f16: those of
/// an item are scaled by one power of two, so that the largest lands just below the largest f16 and what is lost of small ones is below
/// 2^-30 of it. Returns what undoes it.
template <Config C>
__device__ __forceinline__ float load_queries_for_narrow(const KernelParams& params, const Row* rows, int32_t num_rows, char* shared) {
  constexpr int32_t kSteps = 4 * num_chunks(C.head_dim_qk);  // of 16 elements
  constexpr int32_t kBytes = row_of(C.q).bits / 8;
  constexpr Layout kLayout = layout_of(C);
  const QView& q = params.q;
  const bool aligned =
      params.head_dim_qk % 16 == 0 && ((reinterpret_cast<uint64_t>(q.data) | static_cast<uint64_t>(q.token_stride * kBytes) |
                                        static_cast<uint64_t>(q.head_stride * kBytes)) &
                                       15) == 0;
  const auto piece_of = [&](int32_t i, int32_t half) {  // piece 2 (i % kSteps) + half of row i / kSteps
    const int32_t r = i / kSteps, piece = 2 * (i - r * kSteps) + half;
    const int32_t at = piece / 8 * C.tile_q * kChunkBytes + r * kChunkBytes + ((piece % 8) ^ (r & 7)) * 16;
    return reinterpret_cast<uint4*>(shared + kLayout.q + at);
  };
  int32_t exponent = 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < C.tile_q * kSteps; i += kAttendThreads) {
    const int32_t r = i / kSteps, first = 16 * (i - r * kSteps);
    uint32_t words[8] = {};
    if (r < num_rows && first < params.head_dim_qk) {
      const char* row = static_cast<const char*>(q.data) + kBytes * (rows[r].token * q.token_stride + rows[r].qo_head * q.head_stride);
      load_query_words<C.q>(row, aligned, first, params.head_dim_qk, words);
    }
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      *piece_of(i, half) = uint4{words[4 * half], words[4 * half + 1], words[4 * half + 2], words[4 * half + 3]};
    }
    if constexpr (C.q == DType::bf16) {
#pragma unroll
      for (int32_t w = 0; w < 8; ++w) {
        exponent = max_(exponent, exponent_of_pair(words[w]));
      }
    }
  }
  if constexpr (C.q != DType::bf16) {
    return 1.0f;
  }
  constexpr int32_t kBias = 127, kTopExponent = 14, kMostShift = 100;
  int32_t* exponents = reinterpret_cast<int32_t*>(shared + kLayout.exchange);
  exponent = __reduce_max_sync(kAllLanes, exponent);
  if (threadIdx.x % 32 == 0) {
    exponents[threadIdx.x / 32] = exponent;
  }
  ptx::barrier_sync<kItemBarrier, kAttendThreads>();
  exponent = max_(max_(exponents[0], exponents[1]), max_(exponents[2], exponents[3]));
  const int32_t shift = min_(kTopExponent + kBias - exponent, kMostShift);
  const float factor = __int_as_float((kBias + shift) << 23);
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < 2 * C.tile_q * kSteps; i += kAttendThreads) {
    uint4& words = *piece_of(i / 2, i % 2);
    const auto narrowed = [&](uint32_t pair) {
      return ptx::pack_pair<DType::f16>(__uint_as_float(pair << 16) * factor, __uint_as_float(pair & 0xffff0000u) * factor);
    };
    words = {narrowed(words.x), narrowed(words.y), narrowed(words.z), narrowed(words.w)};
  }
  return __int_as_float((kBias - shift) << 23);
}

// ---- Fragments --------------------------------------------------------------------------------------------------------------------------

/// Keys of this warp's 16 tokens: fragments of elements 16 step .. 16 step + 15 and the 16 after those.
template <Config C>
__device__ __forceinline__ void load_key_fragments(uint32_t k, int32_t step, uint32_t (&first)[4], uint32_t (&second)[4]) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t row = threadIdx.x / 32 % 4 * 16 + lane % 16;
  // ldmatrix takes pairs of elements for its 16-bit ones: (tokens 0-7, piece), (8-15, piece), (0-7, next piece), (8-15, next piece).
  uint32_t bits[4];
  ptx::load_matrix_x4(bits, k + step / 8 * kTileChunkBytes + row * kChunkBytes + ((step % 8 + lane / 16) ^ (lane & 7)) * 16);
#pragma unroll
  for (int32_t half = 0; half < 2; ++half) {
    first[half] = ptx::widen_to_f16<C.k>(bits[half] & 0xffffu);
    first[2 + half] = ptx::widen_to_f16<C.k>(bits[half] >> 16);
    second[half] = ptx::widen_to_f16<C.k>(bits[2 + half] & 0xffffu);
    second[2 + half] = ptx::widen_to_f16<C.k>(bits[2 + half] >> 16);
  }
}

/// Values, transposed: fragments of tokens t .. t + 15 and the 16 after those, rows being elements 16 warp .. 16 warp + 15 of a chunk of
/// 64, the even ones first: ldmatrix transposes pairs of elements, and the two of a pair go to rows g and g + 8.
template <Config C>
__device__ __forceinline__ void load_value_fragments(uint32_t v, int32_t chunk, int32_t t, uint32_t (&first)[4], uint32_t (&second)[4]) {
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t row = t + lane, piece = chunk % 2 * 4 + threadIdx.x / 32 % 4;
  uint32_t bits[4];
  ptx::load_matrix_x4_transposed(bits, v + chunk / 2 * kTileChunkBytes + row * kChunkBytes + (piece ^ (row & 7)) * 16);
#pragma unroll
  for (int32_t i = 0; i < 2; ++i) {
    const uint32_t left = __byte_perm(bits[i], 0, 0x3120), right = __byte_perm(bits[2 + i], 0, 0x3120);
    first[2 * i] = ptx::widen_to_f16<C.v>(left & 0xffffu);
    first[2 * i + 1] = ptx::widen_to_f16<C.v>(left >> 16);
    second[2 * i] = ptx::widen_to_f16<C.v>(right & 0xffffu);
    second[2 * i + 1] = ptx::widen_to_f16<C.v>(right >> 16);
  }
}

template <int kCount>
__device__ __forceinline__ void keep(uint32_t (&set)[kCount][4]) {
#pragma unroll
  for (int32_t f = 0; f < kCount; ++f) {
    ptx::keep(set[f]);
  }
}

// ---- Products ---------------------------------------------------------------------------------------------------------------------------

/// s = k . q. `q` is where the first of the rows begins.
template <Config C, int kFloats>
__device__ __forceinline__ void multiply_narrow_keys(uint32_t k, uint32_t q, float (&s)[kFloats]) {
  constexpr int32_t kSet = kSetFragments<C>;
  constexpr int32_t kSteps = C.head_dim_qk / 16, kSets = ceil_div(kSteps, kSet);
  FragmentSet<C> sets[2];
  ptx::keep(s);
#pragma unroll
  for (int32_t n = 0; n < kSets; ++n) {
    FragmentSet<C>& set = sets[n % 2];
    if (n >= 2) {
      ptx::wgmma_wait<1>();
      keep(set);
    }
#pragma unroll
    for (int32_t f = 0; f < kSet; f += 2) {
      if (n * kSet + f < kSteps) {
        load_key_fragments<C>(k, n * kSet + f, set[f], set[f + 1]);
      }
    }
    ptx::wgmma_fence();
#pragma unroll
    for (int32_t f = 0; f < kSet; ++f) {
      const int32_t step = n * kSet + f;
      if (step < kSteps) {
        ptx::wgmma<DType::f16, false>(
            s, set[f], ptx::wgmma_operand(q + step / 4 * C.tile_q * kChunkBytes + step % 4 * 32, 16, 1024, ptx::Swizzle::bytes_128),
            step > 0);
      }
    }
    ptx::wgmma_commit();
  }
  ptx::wgmma_wait<0>();
  keep(sets[0]);
  keep(sets[1]);
  ptx::keep(s);
}

/// o += v transposed . weights. The four warps meet inside, behind their weights: what values a warp needs first are widened before.
template <Config C, int kChunks, int kFloats>
__device__ __forceinline__ void multiply_narrow_values(uint32_t v, uint32_t p, float (&o)[kChunks][kFloats]) {
  constexpr int32_t kSet = kSetFragments<C>;
  constexpr int32_t kSetsOfChunk = kTileKv / 16 / kSet, kSets = kChunks * kSetsOfChunk;
  FragmentSet<C> sets[2];
  const auto load = [&](int32_t n) {
#pragma unroll
    for (int32_t f = 0; f < kSet; f += 2) {
      load_value_fragments<C>(v, n / kSetsOfChunk, (n % kSetsOfChunk * kSet + f) * 16, sets[n % 2][f], sets[n % 2][f + 1]);
    }
  };
  load(0);
  if constexpr (kSets > 1) {
    load(1);
  }
  ptx::fence_shared_for_async();
  ptx::barrier_sync<kTileBarrier, kAttendThreads>();
#pragma unroll
  for (int32_t chunk = 0; chunk < kChunks; ++chunk) {
    ptx::keep(o[chunk]);
  }
#pragma unroll
  for (int32_t n = 0; n < kSets; ++n) {
    if (n >= 2) {
      ptx::wgmma_wait<1>();
      keep(sets[n % 2]);
      load(n);
    }
    ptx::wgmma_fence();
#pragma unroll
    for (int32_t f = 0; f < kSet; ++f) {
      const int32_t t = (n % kSetsOfChunk * kSet + f) * 16;
      ptx::wgmma<DType::f16, true>(o[n / kSetsOfChunk], sets[n % 2][f],
                                   ptx::wgmma_operand(p + t * 16, 128, kTileKv * 16, ptx::Swizzle::none), true);
    }
    ptx::wgmma_commit();
  }
  ptx::wgmma_wait<0>();
  keep(sets[0]);
  keep(sets[1]);
#pragma unroll
  for (int32_t chunk = 0; chunk < kChunks; ++chunk) {
    ptx::keep(o[chunk]);
  }
}

}  // namespace fovea::cuda::attention_sm90_decode
