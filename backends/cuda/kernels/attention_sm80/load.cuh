// Queries and kv tiles on their way into shared memory.
#pragma once

#include "backends/cuda/device/ptx/convert.cuh"
#include "backends/cuda/device/ptx/cp_async.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/device/rows.cuh"
#include "backends/cuda/kernels/attention_sm80/layout.h"
#include "portable/convert.h"

namespace fovea::cuda::attention_sm80 {

constexpr bool is_narrow(DType dtype) { return row_of(dtype).bits == 8; }

template <Config C>
inline constexpr int32_t kRowTiles = row_tiles(C);
template <Config C>
inline constexpr int32_t kWarpCols = warp_cols(C);
template <Config C>
inline constexpr int32_t kStripCols = strip_cols(C);

/// The warps that share columns. They load those columns themselves and wait for nobody else until an item ends.
template <Config C>
struct Team {
  static constexpr int32_t kThreads = 32 * C.warps_q;
  static_assert(kThreads % kWarpCols<C> == 0, "a thread looks up a column of one of the next tiles; see select.cc");
  int32_t index, thread;

  __device__ __forceinline__ Team() : Team(ptx::thread_index()) {}
  __device__ __forceinline__ explicit Team(uint32_t id)
      : index(C.warps_kv == 1 ? 0 : static_cast<int32_t>(id / kThreads)),
        thread(static_cast<int32_t>(C.warps_kv == 1 ? id : id % kThreads)) {}
  __device__ __forceinline__ int32_t first_col() const { return index * kWarpCols<C>; }
  /// Of the column that this thread looks up: which of the tiles, and where in it.
  __device__ __forceinline__ int32_t lookup_tile() const { return static_cast<int32_t>(static_cast<uint32_t>(thread) / kWarpCols<C>); }
  __device__ __forceinline__ int32_t lookup_col() const {
    return first_col() + static_cast<int32_t>(static_cast<uint32_t>(thread) % kWarpCols<C>);
  }
  __device__ __forceinline__ void sync() const {
    if constexpr (C.warps_q == 1) {
      __syncwarp();
    } else {
      static_assert(C.warps_kv == 1, "warps share rows or columns, not both; see select.cc");
      __syncthreads();
    }
  }
};

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

/// Rows [0, num_rows) of an item into `shared` ([tile_q][q_row_bytes]); zeros behind them. With `negative` their signs change. Some of it
/// arrives with the group of copies committed next.
template <Config C>
__device__ __forceinline__ void load_queries(const KernelParams& params, const Row* rows, int32_t num_rows, bool negative, char* shared) {
  constexpr DType kType = qk_type(C);
  constexpr int32_t kPieces = C.head_dim_qk / 8;
  const bool whole = C.q == kType && !is_narrow(C.k) && !negative && params.head_dim_qk == C.head_dim_qk &&
                     ((reinterpret_cast<uint64_t>(params.q.data) | static_cast<uint64_t>(params.q.token_stride * 2) |
                       static_cast<uint64_t>(params.q.head_stride * 2)) &
                      15) == 0;
  const uint32_t sign = negative ? 0x80008000u : 0u;
#pragma unroll 1
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < C.tile_q * kPieces; i += num_threads(C)) {
    const int32_t r = i / kPieces;
    const int32_t piece = i - r * kPieces;
    char* to = shared + r * q_row_bytes(C) + 16 * piece;
    const int64_t row = rows[r].token * params.q.token_stride + rows[r].qo_head * params.q.head_stride;
    if (whole) {
      ptx::copy_16(ptx::shared_address(to), static_cast<const char*>(params.q.data) + 2 * (row + 8 * piece), r < num_rows ? 16 : 0);
      continue;
    }
    uint32_t words[4] = {0, 0, 0, 0};
    if (r < num_rows) {
#pragma unroll
      for (int32_t w = 0; w < 4; ++w) {
        const int32_t s = 8 * (piece % 2) + 2 * w;
        const int32_t d = 16 * (piece / 2);
        words[w] = (element_bits<C.q, kType>(params.q.data, row, d + element_at<C.k>(s), params.head_dim_qk) |
                    element_bits<C.q, kType>(params.q.data, row, d + element_at<C.k>(s + 1), params.head_dim_qk) << 16) ^
                   sign;
      }
    }
    *reinterpret_cast<uint4*>(to) = {words[0], words[1], words[2], words[3]};
  }
}

/// K or V of one kv head.
struct HeadCache {
  const char* data;  // of slot 0 of page 0
  int64_t page_bytes, token_bytes;
  int32_t row_bytes;   // of the problem's head_dim
  int32_t is_aligned;  // rows begin and end at multiples of 16 bytes
};

__device__ __forceinline__ HeadCache head_cache(const CacheView& cache, int32_t kv_head, int32_t element_bytes, int32_t head_dim) {
  HeadCache h{.data = static_cast<const char*>(cache.data) + kv_head * cache.head_stride * element_bytes,
              .page_bytes = cache.page_stride * element_bytes,
              .token_bytes = cache.token_stride * element_bytes,
              .row_bytes = head_dim * element_bytes};
  h.is_aligned =
      ((reinterpret_cast<uint64_t>(h.data) | static_cast<uint64_t>(h.page_bytes) | static_cast<uint64_t>(h.token_bytes | h.row_bytes)) &
       15) == 0;
  return h;
}

/// What the tiles of an item share. In shared memory: registers are for o and scores.
struct TileSource {
  Columns columns;
  ItemTiles tiles;
  HeadCache k, v;
  int32_t kv_head, kv_len_max;
};

/// A column whose page is being looked up; slot -1: there is none, or nobody sees it.
struct AskedColumn {
  int32_t page, slot;
};

/// Page and slot of a column. The page is read while other things happen: it is used a tile later or more.
__device__ __forceinline__ AskedColumn ask_for_column(const TileSource& source, int32_t column) {
  if (!holds(source.tiles.columns, column)) {
    return {0, -1};
  }
  if (source.columns.table == nullptr) {
    return {column, 0};
  }
  const uint32_t page_size = static_cast<uint32_t>(source.columns.page_size);
  const uint32_t entry = static_cast<uint32_t>(column) / page_size;
  return {source.columns.table[entry], static_cast<int32_t>(column - entry * page_size)};
}

/// What columns are copied from that nobody sees: V rows must be zeros there, for 0 * NaN is NaN. Copies without conditions are the
/// fastest.
__device__ uint4 zero_row[2 * 256 / 16];

__device__ __forceinline__ uint64_t row_address(const HeadCache& cache, int64_t page, int32_t slot) {
  return reinterpret_cast<uint64_t>(cache.data) + static_cast<uint64_t>(page * cache.page_bytes + slot * cache.token_bytes);
}

__device__ __forceinline__ void copy_scale(const ScaleView& scale, int64_t page, int32_t slot, int32_t kv_head, bool loaded,
                                           float* shared) {
  if (loaded && scale.per_token) {
    ptx::copy_4(ptx::shared_address(shared),
                scale.data + page * scale.page_stride + slot * scale.token_stride + kv_head * scale.head_stride, 4);
  } else {
    *shared = loaded ? 1.0f : 0.0f;  // 1: only the other of k and v has scales
  }
}

/// The place of the column that was asked for, into the ring of places at `c`; its position and scales into theirs at `detail`. Scales
/// arrive with the group of copies committed next.
template <Config C>
__device__ __forceinline__ void place_column(const KvView& kv, const TileSource& source, AskedColumn asked, int32_t c, int32_t detail,
                                             char* shared) {
  constexpr Layout kLayout = layout_of(C);
  const int64_t page = source.columns.table == nullptr ? source.columns.table_begin + asked.page : asked.page;
  bool loaded = asked.slot >= 0;
  if (source.columns.by_index) {
    const int32_t position = kv_position(source.columns, 0, page, asked.slot);
    loaded = loaded && position < source.kv_len_max && holds(source.tiles.positions, position);
    reinterpret_cast<int32_t*>(shared + kLayout.positions)[detail] = position;
  }
  ColumnPlace place{reinterpret_cast<uint64_t>(zero_row), reinterpret_cast<uint64_t>(zero_row)};
  if (loaded) {
    place = {row_address(source.k, page, asked.slot), row_address(source.v, page, asked.slot)};
  }
  reinterpret_cast<ulonglong2*>(shared + kLayout.places)[c] = {place.k, place.v};
  if constexpr (C.token_scales != 0) {
    copy_scale(kv.k.scale, page, asked.slot, source.kv_head, loaded, reinterpret_cast<float*>(shared + kLayout.k_scale) + detail);
    copy_scale(kv.v.scale, page, asked.slot, source.kv_head, loaded, reinterpret_cast<float*>(shared + kLayout.v_scale) + detail);
  }
}

constexpr int32_t power_of_two_from(int32_t n) {
  int32_t power = 1;
  while (power < n) {
    power *= 2;
  }
  return power;
}

/// The team's rows of k or v: a thread copies the same 16 bytes of every n-th row. `places` (shared address) and `shared` are of the team's
/// first column.
template <Config C, int32_t kRowBytes, int32_t kPieces>
__device__ __forceinline__ void load_rows(const Team<C>& team, int32_t row_bytes, uint32_t places, uint32_t shared) {
  constexpr int32_t kLanes = power_of_two_from(kPieces);  // of a row
  constexpr int32_t kStep = Team<C>::kThreads / kLanes;   // rows at once
  constexpr int32_t kRows = ceil_div(kWarpCols<C>, kStep);
  constexpr int32_t kBatch = min_(kRows, 8);
  static_assert(kStep >= 1, "a row is at most 32 pieces of 16 bytes");
  const int32_t offset = 16 * static_cast<int32_t>(static_cast<uint32_t>(team.thread) % kLanes);
  const int32_t first = static_cast<int32_t>(static_cast<uint32_t>(team.thread) / kLanes);
  if (kPieces != kLanes && offset >= 16 * kPieces) {
    return;
  }
  const uint32_t from = places + first * static_cast<int32_t>(sizeof(ColumnPlace));
  const uint32_t to = shared + first * kRowBytes + offset;
  if (offset >= row_bytes) {  // the problem's head dim is below this kernel's
#pragma unroll 1
    for (int32_t r = first; r < kWarpCols<C>; r += kStep) {
      ptx::store_zeros_16(shared + r * kRowBytes + offset);
    }
    return;
  }
#pragma unroll
  for (int32_t begin = 0; begin < kRows; begin += kBatch) {
    uint64_t rows[kBatch];
#pragma unroll
    for (int32_t i = 0; i < kBatch; ++i) {
      const int32_t r = (begin + i) * kStep;
      if (kWarpCols<C> % kStep == 0 || r + first < kWarpCols<C>) {
        rows[i] = ptx::load_shared_8(from + r * static_cast<int32_t>(sizeof(ColumnPlace)));
      }
    }
#pragma unroll
    for (int32_t i = 0; i < kBatch; ++i) {
      const int32_t r = (begin + i) * kStep;
      if (kWarpCols<C> % kStep == 0 || r + first < kWarpCols<C>) {
        ptx::copy_16(to + r * kRowBytes, rows[i] + offset);
      }
    }
  }
}

/// The same of rows that don't begin or end at multiples of 16 bytes: slow.
template <Config C, int32_t kRowBytes, int32_t kPieces>
__device__ __noinline__ void load_rows_slowly(int32_t team_thread, int32_t row_bytes, const uint64_t* places, char* shared) {
#pragma unroll 1
  for (int32_t i = team_thread; i < kWarpCols<C> * kPieces; i += Team<C>::kThreads) {
    const int32_t r = i / kPieces;
    const int32_t offset = 16 * (i - r * kPieces);
    const uint64_t row = places[2 * r];
    const int32_t num_bytes = row_bytes - offset;
#pragma unroll 1
    for (int32_t byte = 0; byte < 16; ++byte) {
      shared[r * kRowBytes + offset + byte] = byte < num_bytes ? reinterpret_cast<const char*>(row)[offset + byte] : static_cast<char>(0);
    }
  }
}

/// The team's columns of the keys (or values) of the kv tile whose places are in ring place `at`, into stage `stage`. Rows nobody sees
/// become zeros: 0 * NaN is NaN.
template <Config C, bool kValues>
__device__ __forceinline__ void load_part(const KernelParams& params, bool aligned, const Team<C>& team, int32_t at, int32_t stage,
                                          char* shared, uint32_t base) {
  constexpr Layout kLayout = layout_of(C);
  constexpr int32_t kElementBytes = row_of(kValues ? C.v : C.k).bits / 8;
  constexpr int32_t kRowBytes = kValues ? v_row_bytes(C) : k_row_bytes(C);
  constexpr int32_t kPieces = (kValues ? C.head_dim_vo : C.head_dim_qk) * kElementBytes / 16;
  const int32_t places =
      kLayout.places + (at * C.tile_kv + team.first_col()) * static_cast<int32_t>(sizeof(ColumnPlace)) + (kValues ? 8 : 0);
  const int32_t to = kLayout.ring + stage * stage_bytes(C) + (kValues ? C.tile_kv * k_row_bytes(C) : 0) + team.first_col() * kRowBytes;
  const int32_t row_bytes = (kValues ? params.head_dim_vo : params.head_dim_qk) * kElementBytes;
  if (aligned) {
    load_rows<C, kRowBytes, kPieces>(team, row_bytes, base + places, base + to);
  } else {
    load_rows_slowly<C, kRowBytes, kPieces>(team.thread, row_bytes, reinterpret_cast<const uint64_t*>(shared + places), shared + to);
  }
}

}  // namespace fovea::cuda::attention_sm80
