// The columns of a kv tile as addresses, positions and scales: the only place that reads page tables.
#pragma once

#include "backends/cpu/device/vector.h"
#include "backends/cpu/kernels/attention_simd/rows.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// One item's view of K and V: the head's addresses within any slot.
struct HeadCache {
  const char* k;
  const char* v;
  int64_t k_page_bytes, k_token_bytes, v_page_bytes, v_token_bytes;
};

FOVEA_FN int64_t bytes_per_element(DType dtype) { return kDTypeTable[static_cast<int>(dtype)].bits / 8; }

FOVEA_FN HeadCache head_cache(const KvView& kv, int32_t kv_head) {
  const int64_t k_bytes = bytes_per_element(kv.k.dtype);
  const int64_t v_bytes = bytes_per_element(kv.v.dtype);
  return {.k = static_cast<const char*>(kv.k.data) + kv_head * kv.k.head_stride * k_bytes,
          .v = static_cast<const char*>(kv.v.data) + kv_head * kv.v.head_stride * v_bytes,
          .k_page_bytes = kv.k.page_stride * k_bytes,
          .k_token_bytes = kv.k.token_stride * k_bytes,
          .v_page_bytes = kv.v.page_stride * v_bytes,
          .v_token_bytes = kv.v.token_stride * v_bytes};
}

/// Everything about an item that its tiles share.
struct ItemColumns {
  const RowGroup& group;
  const KvView& kv;
  HeadCache cache;
  ItemTiles tiles;
  RowBounds bounds;
  KvRange range;
  int32_t kv_head, tile_kv;
  const void* zeros;
};

FOVEA_FN float scale_at(const ScaleView& scale, int64_t page, int64_t slot, int32_t kv_head) {
  return scale.data[page * scale.page_stride + slot * scale.token_stride + kv_head * scale.head_stride];
}

/// The scale of a head whose columns all have the same; 1 where it is per column.
FOVEA_FN float head_scale(const ScaleView& scale, int32_t kv_head) {
  if (scale.per_token) {
    return 1.0f;
  }
  return scale.data == nullptr ? scale.number : scale.data[kv_head * scale.head_stride];
}

/// `columns` of the tile, all of them visible by range (by_index: to be looked at).
FOVEA_FN void fill_live(const ItemColumns& item, Span columns, ColumnTable& table) {
  const KvView& kv = item.kv;
  const bool has_table = kv.table != nullptr;
  const int32_t page_size = has_table ? kv.page_size : 1;
  int64_t entry = item.group.table_begin + columns.begin / page_size;
  int32_t slot = columns.begin % page_size;
  int64_t page = 0;
  bool new_page = true;
  const SpanPair some_see = positions_some_see(item.range, item.bounds.q.lo, item.bounds.q.hi);
  for (int32_t column = columns.begin; column < columns.end; ++column) {
    if (new_page) {
      page = has_table ? kv.table[entry] : entry;
    }
    const int32_t c = column - table.first_column;
    const int64_t place = kv.by_index ? page * page_size + slot : column;
    const int64_t position = item.group.kv_pos + place * item.group.kv_pos_stride;
    table.kv_pos[c] = static_cast<int32_t>(position);
    const bool seen =
        !kv.by_index || (position < item.bounds.kv_len_max && ((position >= some_see.first.begin && position < some_see.first.end) ||
                                                               (position >= some_see.second.begin && position < some_see.second.end)));
    if (seen) {
      table.live[c] = -1;
      table.k_rows[c] = item.cache.k + page * item.cache.k_page_bytes + slot * item.cache.k_token_bytes;
      table.v_rows[c] = item.cache.v + page * item.cache.v_page_bytes + slot * item.cache.v_token_bytes;
      if (kv.k.scale.per_token) {
        table.k_scale[c] = scale_at(kv.k.scale, page, slot, item.kv_head);
      }
      if (kv.v.scale.per_token) {
        table.v_scale[c] = scale_at(kv.v.scale, page, slot, item.kv_head);
      }
      table.live_begin = min_(table.live_begin, c);
      table.live_end = c + 1;
    }
    new_page = ++slot == page_size;
    if (new_page) {
      slot = 0;
      ++entry;
    }
  }
}

/// Fills `table` for kv tile `tile`. False: no row sees any of it.
FOVEA_FN bool fill_columns(const ItemColumns& item, int32_t tile, ColumnTable& table) {
  const int32_t first = tile * item.tile_kv;
  const Span whole{first, first + item.tile_kv};
  table.first_column = first;
  table.live_begin = item.tile_kv;
  table.live_end = 0;
  table.full = item.tiles.full.contains(whole);
  if (!table.full) {
    for (int32_t c = 0; c < item.tile_kv; ++c) {
      table.k_rows[c] = item.zeros;
      table.v_rows[c] = item.zeros;
      table.k_scale[c] = 1.0f;
      table.v_scale[c] = 1.0f;
      table.kv_pos[c] = 0;
      table.live[c] = 0;
    }
  }
  fill_live(item, clipped(item.tiles.columns.first, whole.begin, whole.end), table);
  fill_live(item, clipped(item.tiles.columns.second, whole.begin, whole.end), table);
  return table.live_end > table.live_begin;
}

/// V rows that no row gives weight are not read: they may hold anything, and 0 * NaN is NaN.
FOVEA_FN void drop_unweighted_columns(const ScoreTile& tile, const void* zeros, ColumnTable& table) {
  for (int32_t c = 0; c < tile.num_columns; c += kLanes) {
    Vec any = zero();
    for (int32_t r = 0; r < tile.num_rows; ++r) {
      const Vec weight = load(tile.scores + static_cast<int64_t>(r) * tile.stride + c);
      any = maximum(maximum(weight, subtract(zero(), weight)), any);
    }
    alignas(64) float lanes[kLanes];
    store(lanes, any);
    for (int32_t i = 0; i < kLanes; ++i) {
      if (lanes[i] == 0.0f) {
        table.v_rows[c + i] = zeros;
      }
    }
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
