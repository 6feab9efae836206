// The warpgroup that loads: kv tiles of its items into the ring, by boxes of tensor maps or token by token.
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/device/ptx/bulk_copy.cuh"
#include "backends/cuda/device/ptx/cp_async.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/device/ptx/mbarrier.cuh"
#include "backends/cuda/device/rows.cuh"
#include "backends/cuda/kernels/attention_sm90_decode/layout.h"

namespace fovea::cuda::attention_sm90_decode {

inline constexpr uint32_t kAllLanes = 0xffffffffu;

/// Where in the ring a CTA is: tiles so far, over all its items.
template <Config C>
struct RingPlace {
  uint32_t shared;  // of the CTA's shared memory
  int32_t stage = 0;
  uint32_t parity = 0;  // of the stage's current use

  __device__ __forceinline__ void advance() {
    if (++stage == C.stages) {
      stage = 0;
      parity ^= 1;
    }
  }
  __device__ __forceinline__ uint32_t k() const { return shared + layout_of(C).ring + stage * stage_bytes(C); }
  __device__ __forceinline__ uint32_t v() const { return k() + k_tile_bytes(C); }
  __device__ __forceinline__ uint32_t barrier(int32_t n) const { return shared + layout_of(C).barriers + 8 * (n * C.stages + stage); }
  __device__ __forceinline__ uint32_t k_full() const { return barrier(0); }
  __device__ __forceinline__ uint32_t v_full() const { return barrier(1); }
  __device__ __forceinline__ uint32_t k_empty() const { return barrier(2); }
  __device__ __forceinline__ uint32_t v_empty() const { return barrier(3); }
};

inline constexpr int32_t kAttendThreads = 128, kLoadThreads = 128, kAttendWarps = 4;

/// An item with what follows from it. The first loading warp makes it; everybody reads it in shared memory, where it takes no registers.
struct ItemRecord {
  WorkItem item;  // row_group -1: there are no more
  RowGroup group;
  ItemTiles tiles;
  Columns columns;
};
static_assert(sizeof(ItemRecord) <= kRecordBytes, "see layout.h");

/// Where in the queue of items a warp is.
template <Config C>
struct QueuePlace {
  char* shared;
  uint32_t items = 0;  // so far

  __device__ __forceinline__ void advance() { ++items; }
  __device__ __forceinline__ uint32_t slot() const { return items % kItemSlots; }
  __device__ __forceinline__ uint32_t parity() const { return items / kItemSlots % 2; }
  __device__ __forceinline__ ItemRecord& record() const {
    return *reinterpret_cast<ItemRecord*>(shared + layout_of(C).items + slot() * kRecordBytes);
  }
  __device__ __forceinline__ uint32_t full() const {
    return ptx::shared_address(shared) + layout_of(C).barriers + 8 * (4 * C.stages + slot());
  }
  __device__ __forceinline__ uint32_t empty() const { return full() + 8 * kItemSlots; }
};

/// One thread, before anybody uses the ring. A stage is full when all loading threads have arrived (for boxes one does as all of them), and
/// empty when the attending warps have. An item's record is free when all warps but the first loading one have arrived.
template <Config C>
__device__ __forceinline__ void initialise_barriers(char* shared) {
  RingPlace<C> ring{ptx::shared_address(shared)};
  for (int32_t s = 0; s < C.stages; ++s) {
    ptx::mbarrier_init(ring.k_full(), kLoadThreads);
    ptx::mbarrier_init(ring.v_full(), kLoadThreads);
    ptx::mbarrier_init(ring.k_empty(), kAttendWarps);
    ptx::mbarrier_init(ring.v_empty(), kAttendWarps);
    ring.advance();
  }
  QueuePlace<C> queue{shared};
  for (int32_t s = 0; s < kItemSlots; ++s) {
    ptx::mbarrier_init(queue.full(), 1);
    ptx::mbarrier_init(queue.empty(), kThreads / 32 - 1);
    queue.advance();
  }
  ptx::fence_mbarrier_init();
}

/// What loading reads of an item.
struct ItemSource {
  const KvView& kv;
  const ItemRecord& record;

  __device__ __forceinline__ const Columns& columns() const { return record.columns; }
  __device__ __forceinline__ const VisibleTiles& tiles() const { return record.tiles.tiles; }
};

/// Does some column of [begin, end) belong to the spans?
__device__ __forceinline__ bool touches(const SpanPair& spans, int32_t begin, int32_t end) {
  return (begin < spans.first.end && end > spans.first.begin) || (begin < spans.second.end && end > spans.second.begin);
}

// ---- Boxes ------------------------------------------------------------------------------------------------------------------------------

/// Where a lane's box is: lane l of batch b has box l of the batch's tiles.
struct BoxPlace {
  const int32_t* entry;  // of the table; null: the page is `page`
  int32_t page, slot;    // page -1: nobody looks; the copy unit then writes zeros
};

__device__ __forceinline__ BoxPlace place_of_box(const ItemSource& source, int32_t box_shift, int32_t batch) {
  const int32_t boxes_shift = kTileShift - box_shift;  // boxes of a tile
  const int32_t index = batch * 32 + static_cast<int32_t>(threadIdx.x % 32);
  const int32_t n = index >> boxes_shift;
  if (n >= source.tiles().count()) {
    return {nullptr, -1, 0};
  }
  const int32_t column = (source.tiles().tile(n) << kTileShift) + ((index & ((1 << boxes_shift) - 1)) << box_shift);
  if (!touches(source.record.tiles.columns, column, column + (1 << box_shift))) {
    return {nullptr, -1, 0};
  }
  if (source.columns().table == nullptr) {
    return {nullptr, 0, static_cast<int32_t>(source.columns().table_begin) + column};
  }
  const int32_t page_size = source.columns().page_size;
  const int32_t entry = page_size == 1 << box_shift ? column >> box_shift : column / page_size;
  return {source.columns().table + entry, -1, column - entry * page_size};
}

/// A warp that loads K or V of an item by boxes.
template <Config C>
struct BoxLoader {
  static constexpr int32_t kMaxChunks = max_(num_kv_chunks(C, C.head_dim_qk), num_kv_chunks(C, C.head_dim_vo));
  static constexpr int32_t kChunk = kChunkBytes / element_bytes(C);  // elements
  static constexpr int32_t kMaxBoxes = 8;                            // of a tile: pages of 8 tokens

  const ItemSource& source;
  const ptx::TensorMap* map;
  int32_t box_shift, chunks;
  bool keys;
  BoxPlace place;  // of the batch of boxes that is next

  __device__ __forceinline__ BoxLoader(const ItemSource& s, const FormatMaps& maps, bool k)
      : source(s),
        map(reinterpret_cast<const ptx::TensorMap*>(k ? &maps.k : &maps.v)),
        box_shift(maps.box_shift),
        chunks(num_kv_chunks(C, k ? C.head_dim_qk : C.head_dim_vo)),
        keys(k),
        place(place_of_box(s, maps.box_shift, 0)) {}

  /// Asks L2 for the tiles that the ring has room for, before the kernels in front are done. They may still write page ids, so that other
  /// pages than the right ones come, none from outside the cache; and K and V, whose lines in L2 they then change.
  __device__ __forceinline__ void prefetch() const {
    const int32_t page = place.entry == nullptr ? place.page : __ldcg(place.entry);
    if (page >= 0 && static_cast<int32_t>(threadIdx.x % 32) < C.stages << (kTileShift - box_shift)) {
#pragma unroll 1
      for (int32_t chunk = 0; chunk < chunks; ++chunk) {
        ptx::prefetch_box(*map, kChunk * chunk, place.slot, source.record.item.kv_head, page);
      }
    }
  }

  /// All tiles.
  __device__ __forceinline__ void load(RingPlace<C>& ring) {
    const int32_t boxes_shift = kTileShift - box_shift;
    const int32_t tiles_of_batch = 32 >> boxes_shift;
    const int32_t count = source.tiles().count();
    const int32_t kv_head = source.record.item.kv_head;
    int32_t page = place.entry == nullptr ? place.page : *place.entry, slot = place.slot;
#pragma unroll 1
    for (int32_t first = 0; first < count; first += tiles_of_batch) {
      const int32_t end = min_(count, first + tiles_of_batch);
#pragma unroll 1
      for (int32_t n = first; n < end; ++n) {
        int32_t pages[kMaxBoxes], slots[kMaxBoxes];
#pragma unroll
        for (int32_t b = 0; b < kMaxBoxes; ++b) {
          const int32_t from = ((n - first) << boxes_shift) + b;  // modulo 32; beyond the tile's boxes it doesn't matter
          pages[b] = __shfl_sync(kAllLanes, page, from);
          slots[b] = __shfl_sync(kAllLanes, slot, from);
        }
        const uint32_t to = keys ? ring.k() : ring.v(), full = keys ? ring.k_full() : ring.v_full();
        ptx::mbarrier_wait(keys ? ring.k_empty() : ring.v_empty(), ring.parity ^ 1);
        if (ptx::elect_one()) {
          ptx::mbarrier_expect_bytes(full, static_cast<uint32_t>(chunks) * kTileChunkBytes);
          ptx::mbarrier_arrive(full, kLoadThreads);
#pragma unroll
          for (int32_t b = 0; b < kMaxBoxes; ++b) {
            if (b >> boxes_shift == 0) {
#pragma unroll
              for (int32_t chunk = 0; chunk < kMaxChunks; ++chunk) {
                if (chunk < chunks) {
                  ptx::load_box(to + chunk * kTileChunkBytes + (b << box_shift) * kChunkBytes, *map, full, ptx::kEvictFirst, kChunk * chunk,
                                slots[b], kv_head, pages[b]);
                }
              }
            }
          }
        }
        __syncwarp();
        ring.advance();
        if (n == first && end < count) {  // ids of the next batch come while this one's tiles do
          place = place_of_box(source, box_shift, first / tiles_of_batch + 1);
          place.page = place.entry == nullptr ? place.page : *place.entry;
        }
      }
      page = place.page;
      slot = place.slot;
    }
  }
};

// ---- Tokens -----------------------------------------------------------------------------------------------------------------------------

/// Do all rows begin at multiples of 16 bytes?
template <int32_t kElementBytes>
__device__ __forceinline__ bool is_aligned(const CacheView& cache) {
  return ((reinterpret_cast<uint64_t>(cache.data) | static_cast<uint64_t>(kElementBytes * cache.page_stride) |
           static_cast<uint64_t>(kElementBytes * cache.token_stride) | static_cast<uint64_t>(kElementBytes * cache.head_stride)) &
          15) == 0;
}

/// First column of this warp's 16 rows in a tile.
__device__ __forceinline__ int32_t first_column_of(const ItemSource& source, int32_t n) {
  return source.tiles().tile(n) * kTileKv + static_cast<int32_t>(threadIdx.x / 32 % 4) * 16;
}

/// Where the page ids of this warp's rows of tile n are kept; -1 where nobody looks.
template <Config C>
__device__ __forceinline__ int32_t* pages_of_tile(char* shared, int32_t n) {
  return reinterpret_cast<int32_t*>(shared + layout_of(C).pages) + n % kPageTiles * kTileKv +
         static_cast<int32_t>(threadIdx.x / 32 % 4) * 16;
}

/// Page ids (ragged: columns) of this warp's rows of tile n, in the background or at once.
template <Config C, bool kAtOnce>
__device__ __forceinline__ void fetch_pages(const ItemSource& source, int32_t n, char* shared) {
  const int32_t row = static_cast<int32_t>(threadIdx.x % 32);
  if (row >= 16 || n >= source.tiles().count()) {
    return;
  }
  const int32_t column = first_column_of(source, n) + row;
  int32_t* page = pages_of_tile<C>(shared, n) + row;
  if (!holds(source.record.tiles.columns, column)) {
    *page = -1;
  } else if (source.columns().table == nullptr) {
    *page = column;
  } else {
    const int32_t* entry = source.columns().table + column / source.columns().page_size;
    if (kAtOnce) {
      *page = *entry;
    } else {
      ptx::copy_4(ptx::shared_address(page), entry, 4);
    }
  }
}

__device__ __forceinline__ void load_unaligned(char* shared, const char* global, int32_t num_bytes) {
#pragma unroll 1
  for (int32_t i = 0; i < 16; ++i) {
    shared[i] = i < num_bytes ? global[i] : static_cast<char>(0);
  }
}

/// This warp's 16 rows of a tile of K or V.
template <int32_t kElementBytes, int32_t kChunks, int32_t kUnroll, bool kAligned>
__device__ __forceinline__ void gather_rows(const CacheView& cache, const ItemSource& source, const int32_t* pages, int32_t column,
                                            int32_t row_bytes, char* tile) {
  constexpr int32_t kPieces = 8 * kChunks;  // of 16 bytes, in a row
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  const int32_t page_size = source.columns().page_size;
  const char* head = static_cast<const char*>(cache.data) + kElementBytes * (source.record.item.kv_head * cache.head_stride);
  const int64_t page_bytes = kElementBytes * cache.page_stride;
  const int64_t first_page = source.columns().table == nullptr ? source.columns().table_begin : 0;
#pragma unroll kUnroll
  for (int32_t step = 0; step < kPieces / 2; ++step) {
    const int32_t row = (step * 32 + lane) / kPieces;
    const int32_t piece = step * 32 + lane - row * kPieces;
    const int32_t page = pages[row];
    const int32_t num_bytes = page < 0 ? 0 : max_(0, min_(16, row_bytes - 16 * piece));
    const char* from = head;
    if (num_bytes > 0) {
      from += (first_page + page) * page_bytes + 16 * piece;
      if (page_size > 1) {
        from += kElementBytes * ((column + row) % page_size * cache.token_stride);
      }
    }
    const int32_t r = static_cast<int32_t>(threadIdx.x / 32 % 4) * 16 + row;
    char* to = tile + piece / 8 * kTileChunkBytes + r * kChunkBytes + ((piece % 8) ^ (r & 7)) * 16;
    if constexpr (kAligned) {
      ptx::copy_16(ptx::shared_address(to), from, num_bytes);
    } else {
      load_unaligned(to, from, num_bytes);
    }
  }
}

/// Four warps: all tiles of an item, 16 rows each. A tile's page ids are asked for kPagesAhead tiles before, in front of that tile's own
/// copies. They are there without a wait: the stage that the tile gets was freed by whoever had seen all copies of the tile `stages`
/// before.
template <Config C, bool kAligned>
__device__ __forceinline__ void gather_tokens(const KernelParams& params, const ItemSource& source, char* shared, RingPlace<C>& ring) {
  constexpr int32_t kBytes = element_bytes(C);
  constexpr int32_t kUnroll = !kAligned ? 1 : C.tile_q <= 32 ? 4 : C.tile_q <= 48 ? 2 : 1;  // registers
  const int32_t count = source.tiles().count();
  const auto filled = [&](uint32_t full) {
    if constexpr (kAligned) {
      ptx::mbarrier_arrive_after_copies(full);
    } else {
      ptx::mbarrier_arrive(full);
    }
  };
#pragma unroll
  for (int32_t n = 0; n < kPagesAhead; ++n) {
    fetch_pages<C, true>(source, n, shared);
  }
  for (int32_t n = 0; n < count; ++n) {
    ptx::mbarrier_wait(ring.k_empty(), ring.parity ^ 1);
    __syncwarp();  // Order: page ids that other lanes wrote
    fetch_pages<C, !kAligned>(source, n + kPagesAhead, shared);
    const int32_t* pages = pages_of_tile<C>(shared, n);
    const int32_t column = first_column_of(source, n);
    gather_rows<kBytes, num_kv_chunks(C, C.head_dim_qk), kUnroll, kAligned>(source.kv.k, source, pages, column, kBytes * params.head_dim_qk,
                                                                            shared + (ring.k() - ring.shared));
    filled(ring.k_full());
    ptx::mbarrier_wait(ring.v_empty(), ring.parity ^ 1);
    gather_rows<kBytes, num_kv_chunks(C, C.head_dim_vo), kUnroll, kAligned>(source.kv.v, source, pages, column, kBytes * params.head_dim_vo,
                                                                            shared + (ring.v() - ring.shared));
    filled(ring.v_full());
    ring.advance();
  }
  __syncwarp();  // Order: page ids are read before the next item's take their place
}

/// A warp's part of loading an item. kFirst: before it, while the kernels in front end, what will be needed is brought near.
template <Config C>
__device__ __forceinline__ void load_item(const KernelParams& params, const Maps<C.num_formats>& maps, const ItemRecord& record,
                                          char* shared, RingPlace<C>& ring, bool is_first) {
  const int32_t format = C.num_formats == 1 ? 0 : record.group.format;
  const ItemSource source{params.kv[format], record};
  const int32_t warp = static_cast<int32_t>(threadIdx.x / 32 % 4);
  if (maps.formats[format].box_rows > 0 && warp < 2) {
    BoxLoader<C> loader(source, maps.formats[format], warp == 0);
    if (is_first && params.kv_early == 0) {
      loader.prefetch();
      ptx::wait_for_previous_grid();
    }
    loader.load(ring);
    return;
  }
  if (is_first && params.kv_early == 0) {
    ptx::wait_for_previous_grid();
  }
  if (maps.formats[format].box_rows > 0) {
    for (int32_t n = source.tiles().count(); n > 0; --n) {  // their place in the ring moves too
      ring.advance();
    }
  } else if (is_aligned<element_bytes(C)>(source.kv.k) && is_aligned<element_bytes(C)>(source.kv.v)) {
    gather_tokens<C, true>(params, source, shared, ring);
  } else {
    gather_tokens<C, false>(params, source, shared, ring);
  }
}

/// The items of this CTA, one after another.
template <PlanForm kForm>
struct ItemWalk {
  const KernelParams& params;
  int32_t config, next_index;
  RowGroup group;  // of the item that next() gave
  __device__ __forceinline__ ItemWalk(const KernelParams& p, int32_t c)
      : params(p), config(c), next_index(static_cast<int32_t>(blockIdx.x)) {}
  __device__ __forceinline__ bool next(WorkItem& item) {
    const ScheduleView& schedule = params.plan.schedules[config];
    if (next_index >= __ldcg(schedule.num_items)) {
      return false;
    }
    item = ReadEarly()(schedule.items + next_index);
    group = ReadEarly()(params.plan.groups + item.row_group);
    next_index += static_cast<int32_t>(gridDim.x);
    return true;
  }
};
/// Does every row see all columns up to some position? Then a few comparisons tell what an item's tiles are.
__device__ __forceinline__ bool sees_prefixes(const KvRange& range) { return range.left == kUnbounded && range.chunk == 0; }

/// Columns that a row at position q sees, of a group whose columns stand one behind the other.
__device__ __forceinline__ int32_t prefix_of(const KvRange& range, const RowGroup& group, int32_t q) {
  return range.right == kUnbounded ? group.num_cols : max_(0, min_(q + range.right + 1 - group.kv_pos, group.num_cols));
}

template <>
struct ItemWalk<PlanForm::ranges> : RangeItems<ReadEarly> {
  __device__ __forceinline__ ItemWalk(const KernelParams& p, int32_t c) : RangeItems(p, c, static_cast<int32_t>(blockIdx.x)) {}

  /// next() and tiles_of_item() for what most items are, in a tenth of the instructions: each costs its time, since a kernel's code comes
  /// from L2 when it begins. False: ask next().
  __device__ __forceinline__ bool next_of_prefixes(WorkItem& item, ItemTiles& tiles) {
    if (!sees_prefixes(params.plan_range) || !sees_prefixes(params.range) ||
        cursor.group >= cursor.end_group + (cursor.end_head > 0 || cursor.end_tile > 0)) {
      return false;
    }
    const bool last_group = cursor.group == cursor.end_group;
    if (last_group && (cursor.kv_head > cursor.end_head || (cursor.kv_head == cursor.end_head && cursor.tile >= cursor.end_tile))) {
      return false;
    }
    group = ReadEarly()(params.plan.groups + cursor.group);
    const int32_t rows = packed_rows_of(group, params.group_size);
    if (rows == 0 || config_of(params.configs, params.num_configs, rows) != config || group.rows >= 0 || group.kv_pos_stride != 1 ||
        params.kv[group.format].by_index != 0) {
      return false;
    }
    const int32_t q_last = group.q_pos + group.num_q_rows - 1;
    const int32_t count = ceil_div(prefix_of(params.plan_range, group, q_last), kTileKv);
    const bool ends_here = last_group && cursor.kv_head == cursor.end_head;
    const int32_t end = ends_here ? cursor.end_tile : count;
    const bool whole = cursor.tile == 0 && end == count;
    Span columns{};
    if (end > cursor.tile) {
      columns = {cursor.tile * kTileKv, min_(end * kTileKv, group.num_cols)};
    }
    item = WorkItem{.row_group = cursor.group,
                    .kv_head = group.kv_head == kAllHeads ? cursor.kv_head : group.kv_head,
                    .config = static_cast<uint16_t>(config),
                    .row_begin = 0,
                    .row_end = rows,
                    .col_begin = columns.begin,
                    .col_end = columns.end,
                    .partial_slot = whole ? (params.num_formats > 1 ? kLevelState : kFinal) : cursor.slot++,
                    .flags = 0};
    tiles = ItemTiles{};
    tiles.columns.first = clipped(Span{0, prefix_of(params.range, group, q_last)}, columns.begin, columns.end);
    if (params.range.exact) {
      tiles.full.first = clipped(Span{0, prefix_of(params.range, group, group.q_pos)}, columns.begin, columns.end);
    }
    tiles.tiles.first = {tiles.columns.first.begin / kTileKv, ceil_div(tiles.columns.first.end, kTileKv)};
    if (ends_here) {
      cursor.tile = cursor.end_tile;
      return true;
    }
    cursor.tile = 0;
    ++cursor.kv_head;
    if (cursor.kv_head >= num_heads_of(group, params.num_kv_heads)) {
      ++cursor.group;
      cursor.kv_head = 0;
    }
    return true;
  }
};

/// The next item into the queue. The first loading warp.
template <Config C>
__device__ __forceinline__ void make_record(const KernelParams& params, ItemWalk<C.form>& walk, const QueuePlace<C>& queue) {
  ItemRecord record;
  record.item.row_group = -1;
  bool known = false;
  if constexpr (C.form == PlanForm::ranges) {
    known = walk.next_of_prefixes(record.item, record.tiles);
  }
  if (!known && walk.next(record.item)) {
    const RowBounds bounds = bounds_of_rows(params, walk.group, record.item.row_begin, record.item.row_end, ReadEarly());
    record.tiles = tiles_of_item(params, record.item, walk.group, bounds, kTileKv);
    known = true;
  }
  if (known) {
    record.group = walk.group;
    record.columns = columns_of(params.kv[C.num_formats == 1 ? 0 : record.group.format], record.group);
  } else {
    record.item.row_group = -1;
  }
  ptx::mbarrier_wait(queue.empty(), queue.parity() ^ 1);
  if (threadIdx.x % 32 == 0) {
    queue.record() = record;
    ptx::mbarrier_arrive(queue.full());
  }
  __syncwarp();
}

/// The loading warpgroup.
template <Config C>
__device__ __forceinline__ void load(const KernelParams& params, const Maps<C.num_formats>& maps, int32_t config, char* shared) {
  RingPlace<C> ring{ptx::shared_address(shared)};
  QueuePlace<C> queue{shared};
  const auto first = [] { return ptx::thread_index() < kAttendThreads + 32; };  // kept in no register
  ItemWalk<C.form> walk(params, config);
  for (bool started = false;; started = true) {
    if (first()) {
      make_record<C>(params, walk, queue);
    } else {
      ptx::mbarrier_wait(queue.full(), queue.parity());
    }
    const ItemRecord& record = queue.record();
    if (record.item.row_group < 0) {
      if (!started && blockIdx.x == 0) {
        ptx::wait_for_previous_grid();  // one CTA that waits is enough for those who rely on this kernel
      }
      return;
    }
    load_item<C>(params, maps, record, shared, ring, !started);
    __syncwarp();  // Order: the record is read before it is written again
    if (!first() && threadIdx.x % 32 == 0) {
      ptx::mbarrier_arrive(queue.empty());
    }
    queue.advance();
  }
}

}  // namespace fovea::cuda::attention_sm90_decode
