// Lists on the device: row tiles of all groups in one order, cut into the items of one head; then all heads' items in (group, head, row
// tile, chunk) order, which are sorted by cost bucket.
#pragma once

#include "portable/planner_batch.h"
#include "portable/schedule.h"

namespace fovea {

struct PlannedGroups {
  int32_t count;
  PlannedGroup* groups;
};

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

template <class Block>
FOVEA_DEVICE_FN RowTiles measure_row_tiles(Block& block, const PlannerParams& params, const PlannedGroups& all, KvRange range,
                                           PlannerScratch& scratch) {
  RowTiles tiles;
  tiles.before = scratch.template take<int32_t>(all.count + 1);
  tiles.count = block.scan(
      all.count, 0,
      [&](int32_t g) {
        const int32_t c = all.groups[g].config;
        return c >= 0 && params.configs[c].form == PlanForm::list ? ceil_div(all.groups[g].packed_rows, params.rows_of_tile[c]) : 0;
      },
      tiles.before);
  tiles.group = scratch.template take<int32_t>(tiles.count);
  tiles.tiles = scratch.template take<VisibleTiles>(tiles.count);
  block.each(tiles.count, [&](int32_t r) {
    const int32_t g = last_not_above(0, all.count, r, [&](int32_t i) { return tiles.before[i]; });
    const PlannedGroup group = all.groups[g];
    const int32_t rows = params.rows_of_tile[group.config].value;
    const int32_t row_begin = (r - tiles.before[g]) * rows;
    tiles.group[r] = g;
    tiles.tiles[r] = tiles_of_rows(params, range, group, row_begin, min_(row_begin + rows, group.packed_rows));
  });
  return tiles;
}

/// One configuration's list on its way.
struct ListPlan {
  const PlannerParams& params;
  const PlannedGroups& all;
  const RowTiles& tiles;
  int32_t config;
  ChunkRule rule;
  Span slots;
  ListCounts* of_tiles;   // before each row tile, one head
  ListCounts* of_groups;  // before each group, all heads
  HeadItem* head_items;
  int32_t* items;  // of all heads: head item * kv heads + head

  FOVEA_FN UnitChunks chunks(int32_t r) const {
    const PlannedGroup& group = all.groups[tiles.group[r]];
    return unit_chunks(rule, tiles.tiles[r], stays_whole(rule, group.format, group.packed_rows));
  }
  FOVEA_FN ListCounts counts(int32_t r) const {
    const int32_t count = all.groups[tiles.group[r]].config == config ? chunks(r).count : 0;
    return count > 1 ? ListCounts{count, count, 1} : ListCounts{count, 0, 0};
  }
  /// What one head of a group brings.
  FOVEA_FN ListCounts of_head(int32_t g) const { return of_tiles[tiles.before[g + 1]] - of_tiles[tiles.before[g]]; }
  FOVEA_FN ListCounts of_group(int32_t g) const { return of_head(g) * all.groups[g].heads(params.num_kv_heads.value); }

  FOVEA_FN HeadItem head_item(int32_t n) const {
    const int32_t r = last_not_above(0, tiles.count, n, [&](int32_t i) { return of_tiles[i].items; });
    const UnitChunks unit = chunks(r);
    const int32_t chunk = n - of_tiles[r].items;
    const Span span = unit.chunk(chunk);
    const KernelConfig& c = params.configs[config];
    const Span columns = columns_of_tiles(unit.tiles, span.begin, span.end, c.tile_kv, all.groups[tiles.group[r]].num_cols);
    return {r, chunk, unit.count, columns.begin, columns.end, cost_bucket(cost_of_tiles(c.cost, span.length()))};
  }

  /// Item n of head h to its place in the order of all.
  FOVEA_FN void put(int32_t n, int32_t h) const {
    const int32_t g = tiles.group[head_items[n].row_tile];
    if (h < all.groups[g].heads(params.num_kv_heads.value)) {
      items[of_groups[g].items + h * of_head(g).items + (n - of_tiles[tiles.before[g]].items)] = n * params.num_kv_heads.value + h;
    }
  }
  FOVEA_FN const HeadItem& head_item_of(int32_t i) const { return head_items[items[i] / params.num_kv_heads]; }

  /// Item i of all, and with the first of a unit its merge.
  FOVEA_FN void write(int32_t i, int32_t place, const PlannerSchedule& out) const {
    const HeadItem item = head_item_of(i);
    const int32_t h = items[i] - items[i] / params.num_kv_heads * params.num_kv_heads.value;
    const int32_t g = tiles.group[item.row_tile], first_tile = tiles.before[g];
    const PlannedGroup& group = all.groups[g];
    const int32_t rows = params.rows_of_tile[config].value;
    const int32_t row_begin = (item.row_tile - first_tile) * rows;
    const int32_t row_end = min_(row_begin + rows, group.packed_rows);
    int32_t slot = params.batch.num_formats > 1 ? kLevelState : kFinal;
    if (item.num_chunks > 1) {
      const ListCounts here = of_groups[g] + of_head(g) * h + (of_tiles[item.row_tile] - of_tiles[first_tile]);
      slot = slots.begin + here.slots + item.chunk;
      if (item.chunk == 0) {
        out.merges[here.merges] = MergeItem{.row_group = g,
                                            .kv_head = group.head(h),
                                            .config = static_cast<uint16_t>(config),
                                            .row_begin = row_begin,
                                            .row_end = row_end,
                                            .slot_begin = slot,
                                            .num_slots = item.num_chunks,
                                            .reserved = {}};
      }
    }
    out.items[place] = WorkItem{.row_group = g,
                                .kv_head = group.head(h),
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
template <class Block>
FOVEA_DEVICE_FN int32_t write_list(Block& block, const PlannerParams& params, const PlannedGroups& groups, const RowTiles& tiles, int32_t c,
                                   uint64_t total, Span slots, const PlannerSchedule& out, PlannerScratch scratch) {
  const KernelConfig& config = params.configs[c];
  const ChunkRule rule = params.fixed_splits ? ChunkRule{.split_tiles = params.split_tokens / params.tile_kv[c],
                                                         .max_rows = kMaxRowsOfFixedSplit,
                                                         .whole_formats = params.whole_formats}
                                             : throughput_rule(config.cost, total, params.num_workers, slots.length());
  ListPlan list{params, groups, tiles, c, rule, slots, nullptr, nullptr, nullptr, nullptr};
  list.of_tiles = scratch.template take<ListCounts>(tiles.count + 1);
  const int32_t head_items = block
                                 .scan(
                                     tiles.count, ListCounts{0, 0, 0}, [&](int32_t r) { return list.counts(r); }, list.of_tiles)
                                 .items;
  list.of_groups = scratch.template take<ListCounts>(groups.count + 1);
  const ListCounts counts = block.scan(
      groups.count, ListCounts{0, 0, 0}, [&](int32_t g) { return list.of_group(g); }, list.of_groups);

  list.head_items = scratch.template take<HeadItem>(head_items);
  list.items = scratch.template take<int32_t>(counts.items);
  block.each(head_items, [&](int32_t n) { list.head_items[n] = list.head_item(n); });
  block.each(head_items * params.num_kv_heads.value, [&](int32_t i) {
    const int32_t n = i / params.num_kv_heads;
    list.put(n, i - n * params.num_kv_heads.value);
  });
  // The longest first.
  block.sort_descending(
      counts.items, [&](int32_t i) { return list.head_item_of(i).bucket; }, [&](int32_t i, int32_t place) { list.write(i, place, out); });
  block.first([&] {
    *out.num_items = counts.items;
    *out.num_merges = counts.merges;
  });
  return counts.slots;
}

}  // namespace fovea
