// The columns of a kv tile as addresses, positions and scales: the only place that reads page tables.
#pragma once

#include "backends/cpu/device/dot.h"
#include "backends/cpu/device/vector.h"
#include "backends/cpu/kernels/attention_simd/rows.h"
#include "backends/cpu/kernels/attention_simd/stage.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// K and V of the first head of a set, within any slot.
struct HeadCache {
  const char* k;
  const char* v;
  int64_t k_page_bytes, k_token_bytes, k_head_bytes;
  int64_t v_page_bytes, v_token_bytes, v_head_bytes;
};

FOVEA_FN int64_t bytes_per_element(DType dtype) { return kDTypeTable[static_cast<int>(dtype)].bits / 8; }

FOVEA_FN HeadCache head_cache(const KvView& kv, int32_t kv_head) {
  const int64_t k_bytes = bytes_per_element(kv.k.dtype);
  const int64_t v_bytes = bytes_per_element(kv.v.dtype);
  return {.k = static_cast<const char*>(kv.k.data) + kv_head * kv.k.head_stride * k_bytes,
          .v = static_cast<const char*>(kv.v.data) + kv_head * kv.v.head_stride * v_bytes,
          .k_page_bytes = kv.k.page_stride * k_bytes,
          .k_token_bytes = kv.k.token_stride * k_bytes,
          .k_head_bytes = kv.k.head_stride * k_bytes,
          .v_page_bytes = kv.v.page_stride * v_bytes,
          .v_token_bytes = kv.v.token_stride * v_bytes,
          .v_head_bytes = kv.v.head_stride * v_bytes};
}

/// What the mask is asked about tiles, beyond its KvRange.
struct TileQuestion {
  TileMap map;                                                              // what is known beforehand
  TileClass (*class_of)(const void* mask, const Position<Interval>& tile);  // null: nothing
  const void* mask;
  Position<Interval> rows;  // of the set, between them; kv_pos is the tile's
};

FOVEA_FN Position<Interval> bounds_of_rows(const ItemRow* rows, int32_t num_rows) {
  const auto as_intervals = [](const Position<>& at) {
    return Position<Interval>{at.request, at.qo_idx, at.q_pos, at.kv_pos, at.qo_head, at.kv_head, at.qo_len, at.kv_len};
  };
  Position<Interval> all = as_intervals(rows[0].at);
  for (int32_t r = 1; r < num_rows; ++r) {
    const Position<>& at = rows[r].at;
    all = {hull(all.request, at.request), hull(all.qo_idx, at.qo_idx),   hull(all.q_pos, at.q_pos),   all.kv_pos,
           hull(all.qo_head, at.qo_head), hull(all.kv_head, at.kv_head), hull(all.qo_len, at.qo_len), hull(all.kv_len, at.kv_len)};
  }
  return all;
}

/// Nothing is asked where KvRange is the whole mask, nor of tiles whose positions are known only once their table is read.
FOVEA_FN TileQuestion tile_question(const KernelParams& params, const VariantCode& variant, const KvView& kv, const ItemRow* rows,
                                    int32_t num_rows) {
  const bool nothing_to_ask = variant.class_of == nullptr && params.tile_map.classes == nullptr;
  if (nothing_to_ask || params.range.exact || kv.by_index) {
    return {.map = {}, .class_of = nullptr, .mask = nullptr, .rows = {}};
  }
  return {.map = params.tile_map, .class_of = variant.class_of, .mask = params.mask, .rows = bounds_of_rows(rows, num_rows)};
}

/// What the tiles of a set share.
struct SetColumns {
  const RowGroup& group;
  const KvView& source;  // the cache
  const KvView& kv;      // what is computed on: the same, unless the variant transforms keys or values
  TileQuestion question;
  Transforms transforms;
  HeadCache cache;
  ItemTiles tiles;
  RowBounds bounds;
  KvRange range;
  int32_t first_head, num_heads, tile_kv;  // heads first_head .. first_head + num_heads - 1 at most
  int64_t k_row_bytes, v_row_bytes;
  bool heads_adjacent;  // in K and in V: the heads of a token side by side
  const void* zeros;
};

/// The scale of a head whose columns all have the same; 1 where it is per column.
FOVEA_FN float head_scale(const ScaleView& scale, int32_t kv_head) {
  if (scale.per_token) {
    return 1.0f;
  }
  return scale.data == nullptr ? scale.number : scale.data[kv_head * scale.head_stride];
}

/// `columns` of the tile, all of them visible by range (by_index: to be looked at).
FOVEA_FN void fill_live(const SetColumns& set, Span columns, TileColumns& tile) {
  const KvView& kv = set.source;
  ColumnTable& table = tile.table;
  const bool has_table = kv.table != nullptr;
  const int32_t page_size = has_table ? kv.page_size : 1;
  int64_t entry = set.group.table_begin + columns.begin / page_size;
  int32_t slot = columns.begin % page_size;
  int64_t page = 0;
  bool new_page = true;
  const SpanPair some_see = positions_some_see(set.range, set.bounds.q.lo, set.bounds.q.hi);
  for (int32_t column = columns.begin; column < columns.end; ++column) {
    if (new_page) {
      page = has_table ? kv.table[entry] : entry;
    }
    const int32_t c = column - table.first_column;
    const int64_t place = kv.by_index ? page * page_size + slot : column;
    const int64_t position = set.group.kv_pos + place * set.group.kv_pos_stride;
    table.kv_pos[c] = static_cast<int32_t>(position);
    const bool seen =
        !kv.by_index || (position < set.bounds.kv_len_max && ((position >= some_see.first.begin && position < some_see.first.end) ||
                                                              (position >= some_see.second.begin && position < some_see.second.end)));
    if (seen) {
      table.live[c] = -1;
      table.k_rows[c] = set.cache.k + page * set.cache.k_page_bytes + slot * set.cache.k_token_bytes;
      table.v_rows[c] = set.cache.v + page * set.cache.v_page_bytes + slot * set.cache.v_token_bytes;
      if (kv.k.scale.per_token) {
        tile.k_scale[c] = kv.k.scale.data + page * kv.k.scale.page_stride + slot * kv.k.scale.token_stride;
      }
      if (kv.v.scale.per_token) {
        tile.v_scale[c] = kv.v.scale.data + page * kv.v.scale.page_stride + slot * kv.v.scale.token_stride;
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

/// What the mask says of a tile whose visible columns are these.
FOVEA_FN TileClass class_of_columns(const SetColumns& set, Span first, Span second) {
  const TileQuestion& question = set.question;
  if ((question.class_of == nullptr && question.map.classes == nullptr) || (first.empty() && second.empty())) {
    return TileClass::mixed;
  }
  const int32_t begin = first.empty() ? second.begin : first.begin;
  const int32_t last = (second.empty() ? first.end : second.end) - 1;
  Position<Interval> tile = question.rows;
  tile.kv_pos = {set.group.kv_pos + begin * set.group.kv_pos_stride, set.group.kv_pos + last * set.group.kv_pos_stride};
  const TileClass known = class_in(question.map, tile);
  return known != TileClass::mixed || question.class_of == nullptr ? known : question.class_of(question.mask, tile);
}

/// Fills `tile` for kv tile number `index`. False: no row sees any of it.
FOVEA_FN bool fill_tile(const SetColumns& set, int32_t index, TileColumns& tile) {
  const int32_t first = index * set.tile_kv;
  const Span whole{first, first + set.tile_kv};
  ColumnTable& table = tile.table;
  table.first_column = first;
  table.live_begin = set.tile_kv;
  table.live_end = 0;
  table.full = set.tiles.full.contains(whole);
  const Span seen_first = clipped(set.tiles.columns.first, whole.begin, whole.end);
  const Span seen_second = clipped(set.tiles.columns.second, whole.begin, whole.end);
  if (!table.full) {
    const TileClass tile_class = class_of_columns(set, seen_first, seen_second);
    if (tile_class == TileClass::empty) {
      return false;
    }
    // Of a tile that ends before all of its columns, or past those of a row, not every column is there.
    table.full = tile_class == TileClass::full && set.tiles.columns.contains(whole) && whole.end <= set.bounds.col_end_min;
  }
  if (!table.full) {
    for (int32_t c = 0; c < set.tile_kv; ++c) {
      table.k_rows[c] = nullptr;
      table.v_rows[c] = nullptr;
      table.kv_pos[c] = 0;
      table.live[c] = 0;
    }
  }
  fill_live(set, seen_first, tile);
  fill_live(set, seen_second, tile);
  return table.live_end > table.live_begin;
}

/// One head's columns of a tile.
struct HeadColumns {
  ColumnTable* table;
  int64_t k_offset, v_offset;  // bytes to add to the table's rows
};

/// A copy of the tile's table with the rows and scales of kv head first_head + `head`; what no row may see points to zeros.
FOVEA_FN ColumnTable& copy_table(const SetColumns& set, int32_t head, TileColumns& tile) {
  ColumnTable& table = tile.heads[head];
  table.kv_pos = tile.table.kv_pos;
  table.live = tile.table.live;
  table.first_column = tile.table.first_column;
  table.live_begin = tile.table.live_begin;
  table.live_end = tile.table.live_end;
  table.full = tile.table.full;
  const HeadRows k{.rows = tile.table.k_rows, .offset = head * set.cache.k_head_bytes};
  const HeadRows v{.rows = tile.table.v_rows, .offset = head * set.cache.v_head_bytes};
  for (int32_t c = 0; c < set.tile_kv; ++c) {
    table.k_rows[c] = k.rows[c] != nullptr ? k.row(c) : set.zeros;
    table.v_rows[c] = v.rows[c] != nullptr ? v.row(c) : set.zeros;
  }
  const int64_t kv_head = set.first_head + head;
  if (set.source.k.scale.per_token) {
    for (int32_t c = 0; c < set.tile_kv; ++c) {
      table.k_scale[c] = k.rows[c] != nullptr ? tile.k_scale[c][kv_head * set.source.k.scale.head_stride] : 1.0f;
    }
  }
  if (set.source.v.scale.per_token) {
    for (int32_t c = 0; c < set.tile_kv; ++c) {
      table.v_scale[c] = v.rows[c] != nullptr ? tile.v_scale[c][kv_head * set.source.v.scale.head_stride] : 1.0f;
    }
  }
  return table;
}

/// copy_table() with rows as the variant transforms them. One head at a time: there is one stage.
FOVEA_FN ColumnTable& stage_table(const SetColumns& set, int32_t head, TileColumns& tile) {
  ColumnTable& table = copy_table(set, head, tile);
  const Transforms& t = set.transforms;
  const CacheView& k = set.source.k;
  const CacheView& v = set.source.v;
  const int32_t kv_head = set.first_head + head;
  if (t.variant->transform_key != nullptr) {
    stage_rows({.dtype = k.dtype,
                .scales = k.scale.per_token ? table.k_scale : nullptr,
                .scale = head_scale(k.scale, kv_head),
                .head_dim = t.head_dim_qk,
                .kv_head = kv_head,
                .num_columns = set.tile_kv,
                .rows = table.k_rows,
                .stage = t.k_stage},
               table, [&](float* row, const Position<>& at) { t.variant->transform_key(t.mask, t.params, row, t.head_dim_qk, at); });
  }
  if (t.variant->transform_value != nullptr) {
    stage_rows({.dtype = v.dtype,
                .scales = v.scale.per_token ? table.v_scale : nullptr,
                .scale = head_scale(v.scale, kv_head),
                .head_dim = t.head_dim_vo,
                .kv_head = kv_head,
                .num_columns = set.tile_kv,
                .rows = table.v_rows,
                .stage = t.v_stage},
               table, [&](float* row, const Position<>& at) { t.variant->transform_value(t.mask, t.params, row, t.head_dim_vo, at); });
  }
  return table;
}

/// The columns of kv head first_head + `head`.
FOVEA_FN HeadColumns select_head(const SetColumns& set, int32_t head, TileColumns& tile) {
  if (set.transforms.variant != nullptr) {
    return {.table = &stage_table(set, head, tile), .k_offset = 0, .v_offset = 0};
  }
  if (tile.table.full && !set.kv.k.scale.per_token && !set.kv.v.scale.per_token) {
    return {.table = &tile.table, .k_offset = head * set.cache.k_head_bytes, .v_offset = head * set.cache.v_head_bytes};
  }
  return {.table = &copy_table(set, head, tile), .k_offset = 0, .v_offset = 0};
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
