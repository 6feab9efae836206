// Lists on the device: row tiles of all groups in one order, cut into the items of one head, which are placed bucket by bucket: a scan says
// how many of the bucket come before each, and the group's heads follow one another.
#pragma once

#include "portable/planner_batch.h"
#include "portable/schedule.h"

namespace fovea {

/// All row tiles of list configurations, in group order.
struct RowTiles {
  int32_t count;
  int32_t* before;  // row tiles before each group, one more than groups
  int32_t* group;   // of each row tile
  VisibleTiles* tiles;
};

struct ListCounts {
  int32_t items, slots, merges;
  FOVEA_FN ListCounts operator+(ListCounts o) const { return {items + o.items, slots + o.slots, merges + o.merges}; }
  FOVEA_FN ListCounts operator-(ListCounts o) const { return {items - o.items, slots - o.slots, merges - o.merges}; }
  FOVEA_FN ListCounts operator*(int32_t n) const { return {items * n, slots * n, merges * n}; }
};

/// Items of a bucket: of one head, and times the heads of their groups.
struct BucketCounts {
  int32_t one_head, all_heads;
  FOVEA_FN BucketCounts operator+(BucketCounts o) const { return {one_head + o.one_head, all_heads + o.all_heads}; }
};

/// An item of one head.
struct HeadItem {
  int32_t row_tile, chunk, num_chunks;
  int32_t col_begin, col_end, bucket;
};

/// The last i in [lo, hi) with key(i) <= wanted; key(lo) is.
template <class Key, class Value>
FOVEA_FN int32_t last_not_above(int32_t lo, int32_t hi, Value wanted, const Key& key) {
  FOVEA_NO_UNROLL
  while (hi - lo > 1) {
    const int32_t mid = lo + (hi - lo) / 2;
    if (key(mid) <= wanted) {
      lo = mid;
    } else {
      hi = mid;
    }
  }
  return lo;
}

/// unit_tiles(), with a shift where tile_kv is a power of two.
template <class Source>
FOVEA_FN VisibleTiles tiles_of_rows(const PlannerParams& params, const Source& source, KvRange range, const RowGroup& group, int32_t c,
                                    int32_t row_begin, int32_t row_end) {
  const QueryPositions q = query_positions(group, row_begin, row_end, params.group_size);
  const SpanPair columns = visible_columns(group, range, q, source.by_index(group));
  return params.tile_shift[c] >= 0 ? visible_tiles(columns, PowerOfTwo{params.tile_shift[c]})
                                   : visible_tiles(columns, params.configs[c].tile_kv);
}

template <class Block, class Source>
FOVEA_DEVICE_FN RowTiles measure_row_tiles(Block& block, const PlannerParams& params, const PlannerState& s, const Source& source,
                                           KvRange range, const int32_t* row_tiles, const int32_t* config, PlannerScratch& scratch) {
  const int32_t num_groups = s.num_groups;
  RowTiles all;
  all.before = scratch.template take<int32_t>(num_groups + 1);
  all.count = block.scan(
      num_groups, 0, [&](int32_t g) { return config[g] >= 0 && params.configs[config[g]].form == PlanForm::list ? row_tiles[g] : 0; },
      all.before);
  all.group = scratch.template take<int32_t>(all.count);
  all.tiles = scratch.template take<VisibleTiles>(all.count);
  block.each(all.count, [&](int32_t r) {
    const int32_t g = last_not_above(0, num_groups, r, [&](int32_t i) { return all.before[i]; });
    const RowGroup group = source.group(g);
    const int32_t rows = params.rows_of_tile[config[g]];
    const int32_t row_begin = (r - all.before[g]) * rows;
    all.group[r] = g;
    all.tiles[r] =
        tiles_of_rows(params, source, range, group, config[g], row_begin, min_(row_begin + rows, packed_rows_of(group, params.group_size)));
  });
  return all;
}

/// One configuration's list on its way.
template <class Source>
struct ListPlan {
  const PlannerParams& params;
  const Source& source;
  const RowTiles& tiles;
  const int32_t* config_of_group;
  int32_t config;
  ChunkRule rule;
  Span slots;
  ListCounts* of_tiles;   // before each row tile, one head
  ListCounts* of_groups;  // before each group, all heads; only where something is cut
  HeadItem* items;
  BucketCounts* in_bucket;  // before each item, of the bucket at hand

  FOVEA_FN int32_t heads(int32_t g) const { return source.heads(g, params.num_kv_heads); }

  FOVEA_FN UnitChunks chunks(int32_t r) const {
    bool whole = false;
    if (rule.split_tiles > 0) {
      const RowGroup group = source.group(tiles.group[r]);
      whole = stays_whole(rule, group, packed_rows_of(group, params.group_size));
    }
    return unit_chunks(rule, tiles.tiles[r], whole);
  }

  FOVEA_FN ListCounts counts(int32_t r) const {
    const int32_t count = config_of_group[tiles.group[r]] == config ? chunks(r).count : 0;
    return count > 1 ? ListCounts{count, count, 1} : ListCounts{count, 0, 0};
  }

  /// What one head of a group brings.
  FOVEA_FN ListCounts of_head(int32_t g) const { return of_tiles[tiles.before[g + 1]] - of_tiles[tiles.before[g]]; }

  FOVEA_FN HeadItem item(int32_t n) const {
    const int32_t r = last_not_above(0, tiles.count, n, [&](int32_t i) { return of_tiles[i].items; });
    const UnitChunks unit = chunks(r);
    const int32_t chunk = n - of_tiles[r].items;
    const Span span = unit.chunk(chunk);
    const KernelConfig& c = params.configs[config];
    const Span columns = columns_of_tiles(unit.tiles, span.begin, span.end, c.tile_kv, source.group(tiles.group[r]).num_cols);
    return {r, chunk, unit.count, columns.begin, columns.end, cost_bucket(cost_of_tiles(c.cost, span.length()))};
  }

  /// Item n of head h to its place, and the merge of a unit with its first.
  FOVEA_FN void write(int32_t n, int32_t h, int32_t first_of_bucket, const PlannerSchedule& out) const {
    const HeadItem item = items[n];
    const int32_t g = tiles.group[item.row_tile];
    const int32_t first_tile = tiles.before[g];
    const BucketCounts before = in_bucket[of_tiles[first_tile].items];
    const int32_t of_head = in_bucket[of_tiles[tiles.before[g + 1]].items].one_head - before.one_head;
    const int32_t place = first_of_bucket + before.all_heads + h * of_head + (in_bucket[n].one_head - before.one_head);
    const RowGroup group = source.group(g);
    const int32_t rows = params.rows_of_tile[config];
    const int32_t row_begin = (item.row_tile - first_tile) * rows;
    const int32_t row_end = min_(row_begin + rows, packed_rows_of(group, params.group_size));
    const uint16_t kv_head = group.kv_head == kAllHeads ? static_cast<uint16_t>(h) : group.kv_head;
    int32_t slot = source.batch.num_formats > 1 ? kLevelState : kFinal;
    if (item.num_chunks > 1) {
      const ListCounts here = of_groups[g] + this->of_head(g) * h + (of_tiles[item.row_tile] - of_tiles[first_tile]);
      slot = slots.begin + here.slots + item.chunk;
      if (item.chunk == 0) {
        out.merges[here.merges] = MergeItem{.row_group = g,
                                            .kv_head = kv_head,
                                            .config = static_cast<uint16_t>(config),
                                            .row_begin = row_begin,
                                            .row_end = row_end,
                                            .slot_begin = slot,
                                            .num_slots = item.num_chunks,
                                            .reserved = {}};
      }
    }
    out.items[place] = WorkItem{.row_group = g,
                                .kv_head = kv_head,
                                .config = static_cast<uint16_t>(config),
                                .row_begin = row_begin,
                                .row_end = row_end,
                                .col_begin = item.col_begin,
                                .col_end = item.col_end,
                                .partial_slot = slot,
                                .flags = 0};
  }
};

/// Items and merges of form list. Returns the partial slots used.
template <class Block, class Source>
FOVEA_DEVICE_FN int32_t write_list(Block& block, const PlannerParams& params, PlannerState& s, const Source& source, const RowTiles& tiles,
                                   const int32_t* config_of_group, int32_t c, uint64_t total, Span slots, const PlannerSchedule& out,
                                   PlannerScratch scratch) {
  const KernelConfig& config = params.configs[c];
  const ChunkRule rule = params.fixed_splits ? ChunkRule{.split_tiles = params.split_tokens / config.tile_kv,
                                                         .max_rows = kMaxRowsOfFixedSplit,
                                                         .whole_formats = params.whole_formats}
                                             : throughput_rule(config.cost, total, params.num_workers, slots.length());
  ListPlan<Source> list{params, source, tiles, config_of_group, c, rule, slots, nullptr, nullptr, nullptr, nullptr};
  list.of_tiles = scratch.template take<ListCounts>(tiles.count + 1);
  const ListCounts head = block.scan(
      tiles.count, ListCounts{0, 0, 0}, [&](int32_t r) { return list.counts(r); }, list.of_tiles);
  ListCounts all{0, 0, 0};
  if (head.merges > 0) {
    list.of_groups = scratch.template take<ListCounts>(s.num_groups + 1);
    all = block.scan(
        s.num_groups, ListCounts{0, 0, 0}, [&](int32_t g) { return list.of_head(g) * list.heads(g); }, list.of_groups);
  }

  list.items = scratch.template take<HeadItem>(head.items);
  list.in_bucket = scratch.template take<BucketCounts>(head.items + 1);
  block.once([&] { s.used_buckets = 0; });
  block.each(head.items, [&](int32_t n) {
    list.items[n] = list.item(n);
    block.set_bits(&s.used_buckets, 1 << list.items[n].bucket);
  });
  const uint32_t used = static_cast<uint32_t>(block.shared(&s.used_buckets));
  int32_t placed = 0;
  FOVEA_NO_UNROLL
  for (int32_t bucket = kNumCostBuckets - 1; bucket >= 0; --bucket) {  // the longest first
    if ((used >> bucket & 1u) == 0) {
      continue;
    }
    const BucketCounts items = block.scan(
        head.items, BucketCounts{0, 0},
        [&](int32_t n) {
          const HeadItem& item = list.items[n];
          return item.bucket == bucket ? BucketCounts{1, list.heads(tiles.group[item.row_tile])} : BucketCounts{0, 0};
        },
        list.in_bucket);
    block.each(head.items * params.num_kv_heads, [&](int32_t i) {
      const int32_t n = i / params.num_kv_heads, h = i - n * params.num_kv_heads;
      if (list.items[n].bucket == bucket && h < list.heads(tiles.group[list.items[n].row_tile])) {
        list.write(n, h, placed, out);
      }
    });
    placed += items.all_heads;
  }
  block.once([&] {
    *out.num_items = placed;
    *out.num_merges = all.merges;
  });
  return all.slots;
}

}  // namespace fovea
