// Lists on the device: row tiles of all groups in one order, their chunks counted by scans, items placed by a counting sort in which every
// thread has a run of items and counters of its own.
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

  /// Of row tile r in configuration c, all heads; 0: another configuration's.
  FOVEA_FN uint64_t cost(const PlannerParams& params, const BatchView& b, const int32_t* config_of_group, int32_t c, int32_t r) const {
    if (config_of_group[group[r]] != c) {
      return 0;
    }
    const int32_t heads = b.formats[format_of_group(b, group[r])].heads_per_set > 1 ? 1 : params.num_kv_heads;
    return static_cast<uint64_t>(cost_of_tiles(params.configs[c].cost, tiles[r].count())) * static_cast<uint64_t>(heads);
  }
};

struct ListCounts {
  int32_t items, slots, merges;
  FOVEA_FN ListCounts operator+(ListCounts o) const { return {items + o.items, slots + o.slots, merges + o.merges}; }
  FOVEA_FN ListCounts operator-(ListCounts o) const { return {items - o.items, slots - o.slots, merges - o.merges}; }
  FOVEA_FN ListCounts operator*(int32_t n) const { return {items * n, slots * n, merges * n}; }
};

/// The last i in [lo, hi) with key(i) <= wanted; key(lo) is.
template <class Key, class Value>
FOVEA_FN int32_t last_not_above(int32_t lo, int32_t hi, Value wanted, const Key& key) {
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

template <class Block, class Scratch>
FOVEA_DEVICE_FN RowTiles measure_row_tiles(Block& block, const PlannerParams& params, const PlannerState& s, KvRange range,
                                           const int32_t* row_tiles, const int32_t* config, Scratch& scratch) {
  RowTiles all;
  all.before = scratch.template take<int32_t>(s.num_groups + 1);
  all.count = block.scan(
      s.num_groups, 0, [&](int32_t g) { return config[g] >= 0 && params.configs[config[g]].form == PlanForm::list ? row_tiles[g] : 0; },
      all.before);
  all.group = scratch.template take<int32_t>(all.count);
  all.tiles = scratch.template take<VisibleTiles>(all.count);
  block.each(all.count, [&](int32_t r) {
    const int32_t g = last_not_above(0, s.num_groups, r, [&](int32_t i) { return all.before[i]; });
    const RowGroup group = group_of(s.batch, g);
    const int32_t c = config[g];
    const int32_t rows = rows_per_tile(params.configs[c], params.group_size);
    const int32_t row_begin = (r - all.before[g]) * rows;
    all.group[r] = g;
    all.tiles[r] = unit_tiles(group, range, row_begin, min_(row_begin + rows, packed_rows_of(group, params.group_size)), params.group_size,
                              params.configs[c].tile_kv, s.batch.formats[group.format].by_index != 0);
  });
  return all;
}

/// One configuration's list on its way.
struct ListPlan {
  const PlannerParams& params;
  const BatchView& batch;
  const RowTiles& tiles;
  const int32_t* config_of_group;
  int32_t config;
  int32_t num_groups;
  ChunkRule rule;
  ListCounts* of_tiles;   // before each row tile, one head
  ListCounts* of_groups;  // before each group, all heads

  FOVEA_CALLED_FN UnitChunks chunks(int32_t r) const {
    bool whole = false;
    if (rule.split_tiles > 0) {
      const RowGroup group = group_of(batch, tiles.group[r]);
      whole = stays_whole(rule, group, packed_rows_of(group, params.group_size));
    }
    return unit_chunks(rule, tiles.tiles[r], whole);
  }
  FOVEA_FN bool holds(int32_t r) const { return config_of_group[tiles.group[r]] == config; }
  FOVEA_FN int32_t heads(int32_t g) const { return batch.formats[format_of_group(batch, g)].heads_per_set > 1 ? 1 : params.num_kv_heads; }
  /// What one head of a group brings.
  FOVEA_FN ListCounts of_head(int32_t g) const { return of_tiles[tiles.before[g + 1]] - of_tiles[tiles.before[g]]; }
  FOVEA_FN int32_t bucket(const UnitChunks& unit, int32_t i) const {
    return cost_bucket(cost_of_tiles(params.configs[config].cost, unit.chunk(i).length()));
  }
  /// Buckets of the chunks of row tile r.
  FOVEA_CALLED_FN int32_t buckets(int32_t r) const {
    const UnitChunks unit = chunks(r);
    int32_t bits = 1 << bucket(unit, 0) | 1 << bucket(unit, unit.count - 1);  // near-equal chunks: the longest and the shortest
    for (int32_t i = 1; unit.split_tiles > 0 && i + 1 < unit.count; ++i) {
      bits |= 1 << bucket(unit, i);
    }
    return bits;
  }
};

/// Items in (group, kv head, row tile, chunk) order.
struct ItemWalk {
  const ListPlan& list;
  int32_t group, head, row_tile, chunk;
  UnitChunks unit;

  /// At item `n`, which there is.
  FOVEA_CALLED_FN ItemWalk(const ListPlan& plan, int32_t n) : list(plan) {
    group = last_not_above(0, list.num_groups, n, [&](int32_t i) { return list.of_groups[i].items; });
    const int32_t rest = n - list.of_groups[group].items;
    const int32_t each = list.of_head(group).items;
    const int32_t first = list.tiles.before[group];
    head = rest / each;
    const int32_t wanted = list.of_tiles[first].items + (rest - head * each);
    row_tile = last_not_above(first, list.tiles.before[group + 1], wanted, [&](int32_t r) { return list.of_tiles[r].items; });
    chunk = wanted - list.of_tiles[row_tile].items;
    unit = list.chunks(row_tile);
  }
  /// To the next; there is one.
  FOVEA_CALLED_FN void step() {
    if (++chunk < unit.count) {
      return;
    }
    chunk = 0;
    if (++row_tile == list.tiles.before[group + 1]) {
      if (++head == list.heads(group)) {
        head = 0;
        do {
          ++group;
        } while (list.of_groups[group + 1].items == list.of_groups[group].items);
      }
      row_tile = list.tiles.before[group];
    }
    unit = list.chunks(row_tile);
  }
  FOVEA_FN int32_t bucket() const { return list.bucket(unit, chunk); }

  FOVEA_FN void write(WorkItem& item, const PlannerSchedule& out, int32_t first_slot) const {
    const PlannerParams& params = list.params;
    const KernelConfig& config = params.configs[list.config];
    const RowGroup rows_of = group_of(list.batch, group);
    const int32_t rows = rows_per_tile(config, params.group_size);
    const int32_t first = list.tiles.before[group];
    const ListCounts before = list.of_groups[group] + list.of_head(group) * head + (list.of_tiles[row_tile] - list.of_tiles[first]);
    const Span span = unit.chunk(chunk);
    const Span columns = columns_of_tiles(unit.tiles, span.begin, span.end, config.tile_kv, rows_of.num_cols);
    const uint16_t kv_head = rows_of.kv_head == kAllHeads ? static_cast<uint16_t>(head) : rows_of.kv_head;
    const int32_t row_begin = (row_tile - first) * rows;
    const int32_t row_end = min_(row_begin + rows, packed_rows_of(rows_of, params.group_size));
    const int32_t whole = list.batch.num_formats > 1 ? kLevelState : kFinal;
    item = WorkItem{.row_group = group,
                    .kv_head = kv_head,
                    .config = static_cast<uint16_t>(list.config),
                    .row_begin = row_begin,
                    .row_end = row_end,
                    .col_begin = columns.begin,
                    .col_end = columns.end,
                    .partial_slot = unit.count > 1 ? first_slot + before.slots + chunk : whole,
                    .flags = 0};
    if (unit.count > 1 && chunk == 0) {
      out.merges[before.merges] = MergeItem{.row_group = group,
                                            .kv_head = kv_head,
                                            .config = static_cast<uint16_t>(list.config),
                                            .row_begin = row_begin,
                                            .row_end = row_end,
                                            .slot_begin = first_slot + before.slots,
                                            .num_slots = unit.count,
                                            .reserved = {}};
    }
  }
};

FOVEA_FN int32_t bits_above(int32_t bits, int32_t bucket) {
  int32_t count = 0;
  for (uint32_t rest = static_cast<uint32_t>(bits) >> bucket >> 1; rest != 0; rest &= rest - 1) {
    ++count;
  }
  return count;
}

inline constexpr int32_t kListRuns = 256;  // runs of items, a thread each

/// A counting sort: of every bucket in use, longest first, how many items each run has; a scan of that says where they go.
template <class Block, class Scratch>
FOVEA_DEVICE_FN void write_items(Block& block, const ListPlan& list, int32_t num_items, int32_t used, Span slots,
                                 const PlannerSchedule& out, Scratch scratch) {
  const int32_t num_buckets = bits_above(used, 0) + (used & 1);
  const int32_t each = ceil_div(num_items, kListRuns);
  const int32_t runs = ceil_div(num_items, each);
  int32_t* next = scratch.template take<int32_t>(num_buckets * runs + 1);
  const auto walk = [&](int32_t run, const auto& visit) {
    const int32_t begin = run * each, end = min_(num_items, begin + each);
    ItemWalk item(list, begin);
    for (int32_t n = begin;;) {
      visit(item, next[bits_above(used, item.bucket()) * runs + run]);
      if (++n == end) {
        break;
      }
      item.step();
    }
  };
  block.each(runs, [&](int32_t run) {
    for (int32_t b = 0; b < num_buckets; ++b) {
      next[b * runs + run] = 0;
    }
    walk(run, [](const ItemWalk&, int32_t& place) { ++place; });
  });
  block.scan(
      num_buckets * runs, 0, [&](int32_t i) { return next[i]; }, next);
  block.each(runs, [&](int32_t run) {
    walk(run, [&](const ItemWalk& item, int32_t& place) { item.write(out.items[place++], out, slots.begin); });
  });
}

/// Items and merges of form list. Returns the partial slots used.
template <class Block, class Scratch>
FOVEA_DEVICE_FN int32_t write_list(Block& block, const PlannerParams& params, PlannerState& s, const RowTiles& tiles,
                                   const int32_t* config_of_group, int32_t c, uint64_t total, Span slots, const PlannerSchedule& out,
                                   Scratch scratch) {
  ListCounts all{0, 0, 0};
  if (total > 0) {
    const KernelConfig& config = params.configs[c];
    const ChunkRule rule = params.fixed_splits ? ChunkRule{.split_tiles = params.split_tokens / config.tile_kv,
                                                           .max_rows = kMaxRowsOfFixedSplit,
                                                           .whole_formats = params.whole_formats}
                                               : throughput_rule(config.cost, total, params.num_workers, slots.length());
    ListPlan list{params, s.batch, tiles, config_of_group, c, s.num_groups, rule, nullptr, nullptr};
    list.of_tiles = scratch.template take<ListCounts>(tiles.count + 1);
    list.of_groups = scratch.template take<ListCounts>(s.num_groups + 1);
    block.once([&] { s.used_buckets = 0; });
    block.each(tiles.count, [&](int32_t r) {
      if (list.holds(r)) {
        block.set_bits(&s.used_buckets, list.buckets(r));
      }
    });
    const int32_t used = block.shared(&s.used_buckets);
    block.scan(
        tiles.count, ListCounts{0, 0, 0},
        [&](int32_t r) {
          const int32_t count = list.holds(r) ? list.chunks(r).count : 0;
          return count > 1 ? ListCounts{count, count, 1} : ListCounts{count, 0, 0};
        },
        list.of_tiles);
    all = block.scan(
        s.num_groups, ListCounts{0, 0, 0},
        [&](int32_t g) {
          return config_of_group[g] == c ? list.of_head(g) * list.heads(g) : ListCounts{0, 0, 0};
        },
        list.of_groups);
    write_items(block, list, all.items, used, slots, out, scratch);
  }
  block.once([&] {
    *out.num_items = all.items;
    *out.num_merges = all.merges;
  });
  return all.slots;
}

}  // namespace fovea
