// Queries and kv tiles on their way into shared memory.
#pragma once

#include "backends/cuda/device/ptx/convert.cuh"
#include "backends/cuda/device/ptx/cp_async.cuh"
#include "backends/cuda/device/rows.cuh"
#include "backends/cuda/kernels/attention_sm80/layout.h"
#include "portable/convert.h"

namespace fovea::cuda::attention_sm80 {

constexpr bool is_narrow(DType dtype) { return row_of(dtype).bits == 8; }

/// Element of q at place `s` of a group of 16. An 8-bit k comes out of ldmatrix with elements 4 j .. 4 j + 3 in lane j, where a 16-bit one
/// has 2 j, 2 j + 1, 2 j + 8, 2 j + 9: q is stored in the order that meets them.
template <DType K>
__device__ __forceinline__ constexpr int32_t element_at(int32_t s) {
  return is_narrow(K) ? 4 * ((s % 8) / 2) + 2 * (s / 8) + s % 2 : s;
}

/// One element of a row as T bits; 0 past its end.
template <DType From, DType T>
__device__ __forceinline__ uint32_t element_bits(const void* data, int64_t row, int32_t d, int32_t head_dim) {
  if (d >= head_dim) {
    return 0;
  }
  if constexpr (From == T) {
    return static_cast<const uint16_t*>(data)[row + d];
  } else {
    return ptx::pack_pair<T>(to_float(From, data, row + d), 0.0f) & 0xffffu;
  }
}

/// Rows [0, num_rows) of an item into `shared` ([tile_q][q_row_bytes]); zeros behind them.
template <Config C>
__device__ __forceinline__ void load_queries(const KernelParams& params, const Row* rows, int32_t num_rows, char* shared) {
  constexpr DType kType = qk_type(C);
  constexpr int32_t kPieces = C.head_dim_qk / 8;
  const bool whole = C.q == kType && !is_narrow(C.k) && params.head_dim_qk == C.head_dim_qk &&
                     ((reinterpret_cast<uint64_t>(params.q.data) | static_cast<uint64_t>(params.q.token_stride * 2) |
                       static_cast<uint64_t>(params.q.head_stride * 2)) &
                      15) == 0;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < C.tile_q * kPieces; i += num_threads(C)) {
    const int32_t r = i / kPieces;
    const int32_t piece = i - r * kPieces;
    uint4 bits{0, 0, 0, 0};
    if (r < num_rows) {
      const int64_t row = rows[r].token * params.q.token_stride + rows[r].qo_head * params.q.head_stride;
      if (whole) {
        bits = *reinterpret_cast<const uint4*>(static_cast<const char*>(params.q.data) + 2 * (row + 8 * piece));
      } else {
        uint32_t words[4];
#pragma unroll
        for (int32_t w = 0; w < 4; ++w) {
          const int32_t s = 8 * (piece % 2) + 2 * w;
          const int32_t d = 16 * (piece / 2);
          words[w] = element_bits<C.q, kType>(params.q.data, row, d + element_at<C.k>(s), params.head_dim_qk) |
                     element_bits<C.q, kType>(params.q.data, row, d + element_at<C.k>(s + 1), params.head_dim_qk) << 16;
        }
        bits = {words[0], words[1], words[2], words[3]};
      }
    }
    *reinterpret_cast<uint4*>(shared + r * q_row_bytes(C) + 16 * piece) = bits;
  }
}

/// K or V of one kv head.
struct HeadCache {
  const char* data;  // of slot 0 of page 0
  int64_t page_bytes, token_bytes;
  int32_t row_bytes;   // of the problem's head_dim
  int32_t is_aligned;  // rows begin at multiples of 16 bytes
};

__device__ __forceinline__ HeadCache head_cache(const CacheView& cache, int32_t kv_head, int32_t element_bytes, int32_t head_dim) {
  HeadCache h{.data = static_cast<const char*>(cache.data) + kv_head * cache.head_stride * element_bytes,
              .page_bytes = cache.page_stride * element_bytes,
              .token_bytes = cache.token_stride * element_bytes,
              .row_bytes = head_dim * element_bytes};
  h.is_aligned =
      ((reinterpret_cast<uint64_t>(h.data) | static_cast<uint64_t>(h.page_bytes) | static_cast<uint64_t>(h.token_bytes)) & 15) == 0;
  return h;
}

/// What the tiles of an item share.
struct TileSource {
  const KvView& kv;
  Columns columns;
  ItemTiles tiles;
  HeadCache k, v;
  int32_t kv_head, kv_len_max;
};

/// A page id and a slot for every column of kv tile `tile`, into ring place `place`. Page ids arrive with the group of copies committed
/// next.
template <Config C>
__device__ __forceinline__ void fetch_places(const TileSource& source, int32_t tile, int32_t place, char* shared) {
  constexpr Layout kLayout = layout_of(C);
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < C.tile_kv; c += num_threads(C)) {
    const int32_t column = tile * C.tile_kv + c;
    const bool live = holds(source.tiles.columns, column);
    const int32_t entry = column / source.columns.page_size;
    int32_t* page = reinterpret_cast<int32_t*>(shared + kLayout.pages) + place * C.tile_kv + c;
    int32_t* slot = reinterpret_cast<int32_t*>(shared + kLayout.slots) + place * C.tile_kv + c;
    *slot = live ? column - entry * source.columns.page_size : -1;
    if (source.columns.table == nullptr) {
      *page = entry;
    } else if (live) {
      ptx::copy_4(ptx::shared_address(page), source.columns.table + entry, 4);
    }
  }
}

/// Is a column to be loaded whose page is known by now?
__device__ __forceinline__ bool is_loaded(const TileSource& source, int64_t page, int32_t slot) {
  if (slot < 0 || !source.columns.by_index) {
    return slot >= 0;
  }
  const int32_t position = kv_position(source.columns, 0, page, slot);
  return position < source.kv_len_max && holds(source.tiles.positions, position);
}

/// 16 bytes of an unaligned row, at once and not in the background: slow, for caches with odd strides.
__device__ __noinline__ void load_unaligned(char* shared, const char* global, int32_t num_bytes) {
#pragma unroll 1
  for (int32_t i = 0; i < 16; ++i) {
    shared[i] = i < num_bytes ? global[i] : static_cast<char>(0);
  }
}

template <Config C, int32_t kRowBytes, int32_t kPieces>
__device__ __forceinline__ void load_rows(const TileSource& source, const HeadCache& cache, const int32_t* pages, const int32_t* slots,
                                          char* shared) {
#pragma unroll 4  // all at once, addresses take the registers that o needs at 256 dims
  for (int32_t step = 0; step < ceil_div(C.tile_kv * kPieces, num_threads(C)); ++step) {
    const int32_t i = step * num_threads(C) + static_cast<int32_t>(threadIdx.x);
    if (C.tile_kv * kPieces % num_threads(C) != 0 && i >= C.tile_kv * kPieces) {
      break;
    }
    const int32_t c = i / kPieces;
    const int32_t offset = 16 * (i - c * kPieces);
    const int32_t slot = slots[c];
    const int64_t page = slot < 0 ? 0 : source.columns.table == nullptr ? source.columns.table_begin + pages[c] : pages[c];
    const bool loaded = is_loaded(source, page, slot);
    const char* row = loaded ? cache.data + page * cache.page_bytes + slot * cache.token_bytes : cache.data;
    const int32_t num_bytes = loaded ? max_(0, min_(16, cache.row_bytes - offset)) : 0;
    char* to = shared + c * kRowBytes + offset;
    if (cache.is_aligned) {
      ptx::copy_16(ptx::shared_address(to), num_bytes > 0 ? row + offset : row, num_bytes);
    } else {
      load_unaligned(to, row + offset, num_bytes);
    }
  }
}

template <Config C>
__device__ __forceinline__ void load_scales(const TileSource& source, const ScaleView& scale, const int32_t* pages, const int32_t* slots,
                                            float* shared) {
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < C.tile_kv; c += num_threads(C)) {
    const int32_t slot = slots[c];
    const int64_t page = slot < 0 ? 0 : source.columns.table == nullptr ? source.columns.table_begin + pages[c] : pages[c];
    if (!scale.per_token) {
      shared[c] = 1.0f;  // only the other of k and v has scales
    } else if (is_loaded(source, page, slot)) {
      ptx::copy_4(ptx::shared_address(shared + c),
                  scale.data + page * scale.page_stride + slot * scale.token_stride + source.kv_head * scale.head_stride, 4);
    } else {
      shared[c] = 0.0f;
    }
  }
}

/// The kv tile whose places are in ring place `place`, into stage `stage`. Rows nobody sees become zeros: 0 * NaN is NaN.
template <Config C>
__device__ __forceinline__ void load_tile(const TileSource& source, int32_t place, int32_t stage, char* shared) {
  constexpr Layout kLayout = layout_of(C);
  const int32_t* pages = reinterpret_cast<const int32_t*>(shared + kLayout.pages) + place * C.tile_kv;
  const int32_t* slots = reinterpret_cast<const int32_t*>(shared + kLayout.slots) + place * C.tile_kv;
  char* k = shared + kLayout.ring + stage * stage_bytes(C);
  load_rows<C, k_row_bytes(C), C.head_dim_qk * row_of(C.k).bits / 8 / 16>(source, source.k, pages, slots, k);
  load_rows<C, v_row_bytes(C), C.head_dim_vo * row_of(C.v).bits / 8 / 16>(source, source.v, pages, slots, k + C.tile_kv * k_row_bytes(C));
  if constexpr (C.token_scales != 0) {
    load_scales<C>(source, source.kv.k.scale, pages, slots, reinterpret_cast<float*>(shared + kLayout.k_scale) + stage * C.tile_kv);
    load_scales<C>(source, source.kv.v.scale, pages, slots, reinterpret_cast<float*>(shared + kLayout.v_scale) + stage * C.tile_kv);
  }
}

}  // namespace fovea::cuda::attention_sm80
