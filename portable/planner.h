// The planner kernel's second half: who computes what for one mask, by portable/schedule.h, with scans where the host has loops. Bit for
// bit what src/schedule/ writes.
//   groups: tiles and cost each -> totals -> ranges: places of boundaries, later(), slots and merges -> cursors
//                                         -> lists: portable/planner_list.h
#pragma once

#include "portable/planner_batch.h"
#include "portable/planner_list.h"
#include "portable/schedule.h"

namespace fovea {

/// What one group costs.
struct GroupArrays {
  uint64_t* cost;                            // of all its heads; of a group of several row tiles 0: those are counted one by one
  uint64_t* cost_before[kMaxKernelConfigs];  // of form ranges: of that configuration's groups, one more than groups
  int32_t* visible_tiles;                    // of a group of one row tile
  int32_t* row_tiles;
  int32_t* config;  // -1: no rows, no work
};

struct RangeCounts {
  int32_t slots, merges;
  FOVEA_FN RangeCounts operator+(RangeCounts other) const { return {slots + other.slots, merges + other.merges}; }
};

/// Tiles and costs of every group, and what is wrong with it.
template <class Block, class Source>
FOVEA_DEVICE_FN void measure_groups(Block& block, const PlannerParams& params, PlannerState& s, const Source& source, KvRange range,
                                    const GroupArrays& out) {
  block.each(s.num_groups, [&](int32_t g) {
    RowGroup group;
    if constexpr (Source::kSimple) {
      const auto both = source.both(g);
      group = both.group;
      if (both.bad_request) {
        block.lower(&s.bad_request, g);
      }
      if (both.group_error != BatchError::none) {
        block.lower(&s.bad_group, g);
      }
    } else {
      group = source.group(g);
      if (source.error(g) != BatchError::none) {
        block.lower(&s.bad_group, g);
      }
    }
    const int32_t packed_rows = packed_rows_of(group, params.group_size);
    uint64_t cost = 0;
    int32_t visible = 0, row_tiles = 0, c = -1;
    if (packed_rows > 0) {
      c = config_of(params.configs, params.num_configs, packed_rows);
      row_tiles = packed_rows <= params.rows_of_tile[c] ? 1 : ceil_div(packed_rows, params.rows_of_tile[c]);
      if (row_tiles == 1 && params.configs[c].form == PlanForm::ranges) {
        visible = tiles_of_rows(params, source, range, group, c, 0, packed_rows).count();
        cost = static_cast<uint64_t>(cost_of_tiles(params.configs[c].cost, visible)) *
               static_cast<uint64_t>(num_heads_of(group, params.num_kv_heads));
      }
      block.set_bits(&s.configs_with_work, 1 << c);
    }
    out.cost[g] = cost;
    out.visible_tiles[g] = visible;
    out.row_tiles[g] = row_tiles;
    out.config[g] = c;
  });
  if constexpr (!Source::kSimple) {
    block.each(s.num_requests, [&](int32_t r) {
      if (error_of_request(source.batch, r) != BatchError::none) {
        block.lower(&s.bad_request, r);
      }
    });
  }
}

/// The place of boundary w, as BoundaryWalk (src/schedule/ranges.cc) finds it.
template <class Source>
FOVEA_FN RangePlace place_of_boundary(const PlannerParams& params, const Source& source, const GroupArrays& groups, int32_t num_groups,
                                      int32_t c, int32_t w, uint64_t total, uint64_t share, Span slots) {
  const uint64_t offset = share * static_cast<uint64_t>(w);
  if (offset >= total) {
    return {num_groups, 0, 0};
  }
  // The last group with cost_before <= offset is of this configuration: others have no width.
  const uint64_t* before = groups.cost_before[c];
  const int32_t group = last_not_above(0, num_groups, offset, [&](int32_t g) { return before[g]; });
  const bool cut = w > 0 && may_cut(w, params.num_workers, slots.length());
  return range_place(params.configs[c].cost, group, source.heads(group, params.num_kv_heads), groups.visible_tiles[group],
                     offset - before[group], cut);
}

/// The merge of the unit that boundary w cuts first. `begins`: places of all boundaries; `before`: partial items before each worker.
template <class Source>
FOVEA_FN void write_range_merge(const PlannerParams& params, const Source& source, int32_t c, const RangePlace* begins,
                                const RangeCounts* before, int32_t w, Span slots, MergeItem& merge) {
  const RangePlace end_of_unit{begins[w].group, begins[w].head, kNone};
  int32_t last = w, hi = params.num_workers;  // the last boundary inside the same unit
  FOVEA_NO_UNROLL
  while (hi - last > 1) {
    const int32_t mid = last + (hi - last) / 2;
    if (is_before(begins[mid], end_of_unit)) {
      last = mid;
    } else {
      hi = mid;
    }
  }
  const RowGroup group = source.group(begins[w].group);
  merge.row_group = begins[w].group;
  merge.kv_head = group.kv_head == kAllHeads ? static_cast<uint16_t>(begins[w].head) : group.kv_head;
  merge.config = static_cast<uint16_t>(c);
  merge.row_begin = 0;
  merge.row_end = packed_rows_of(group, params.group_size);
  merge.slot_begin = slots.begin + before[w].slots - 1;
  merge.num_slots = before[last].slots - before[w].slots + 2;
  merge.reserved[0] = merge.reserved[1] = 0;
}

/// Cursors and merges of form ranges. Returns the partial slots used.
template <class Block, class Source>
FOVEA_DEVICE_FN int32_t write_ranges(Block& block, const PlannerParams& params, const PlannerState& s, const Source& source,
                                     const GroupArrays& groups, int32_t c, uint64_t total, Span slots, const PlannerSchedule& out,
                                     PlannerScratch scratch) {
  const int32_t workers = params.num_workers, num_groups = s.num_groups;
  const uint64_t share = share_of(total, workers);
  RangePlace* begins = scratch.template take<RangePlace>(workers + 1);
  RangeCounts* before = scratch.template take<RangeCounts>(workers + 1);
  block.each(workers, [&](int32_t w) { begins[w] = place_of_boundary(params, source, groups, num_groups, c, w, total, share, slots); });
  block.scan_inclusive(workers, begins, [](RangePlace a, RangePlace b) { return later(a, b); });
  const auto begin_of = [&](int32_t w) { return w < workers ? begins[w] : RangePlace{num_groups, 0, 0}; };
  const auto begins_one = [&](int32_t w) { return begins_merge(w > 0 ? begins[w - 1] : RangePlace{-1, 0, 0}, begins[w]); };
  const RangeCounts all = block.scan(
      workers, RangeCounts{0, 0},
      [&](int32_t w) {
        return RangeCounts{partial_items(begins[w], begin_of(w + 1)), static_cast<int32_t>(begins_one(w))};
      },
      before);
  block.each(workers, [&](int32_t w) {
    const RangePlace begin = begins[w], end = begin_of(w + 1);
    WorkerCursor& cursor = out.cursors[w];
    cursor.group = begin.group;
    cursor.tile = begin.tile;
    cursor.kv_head = static_cast<uint16_t>(begin.head);
    cursor.end_head = static_cast<uint16_t>(end.head);
    cursor.end_group = end.group;
    cursor.end_tile = end.tile;
    cursor.slot = slots.begin + before[w].slots;
    cursor.reserved[0] = cursor.reserved[1] = 0;
    if (begins_one(w)) {
      write_range_merge(params, source, c, begins, before, w, slots, out.merges[before[w].merges]);
    }
    if (w == 0) {
      *out.num_items = 0;
      *out.num_merges = all.merges;
    }
  });
  return all.slots;
}

/// One mask group of a plan.
template <class Block, class Source>
FOVEA_DEVICE_FN void write_schedule(Block& block, const PlannerParams& params, PlannerState& s, const Source& source, int32_t mask_index,
                                    PlannerScratch scratch) {
  read_batch<Source::kSimple>(block, params, s);
  const PlannerMask& mask = params.masks[mask_index];
  const int32_t n = s.num_groups;
  GroupArrays groups{};
  groups.cost = scratch.template take<uint64_t>(n);
  groups.visible_tiles = scratch.template take<int32_t>(n);
  groups.row_tiles = scratch.template take<int32_t>(n);
  groups.config = scratch.template take<int32_t>(n);
  measure_groups(block, params, s, source, mask.range, groups);
  if (mask_index == 0 && params.write_groups) {
    report_errors(block, params, s, source.batch);
  }

  const int32_t with_work = block.shared(&s.configs_with_work);
  const auto has_work = [&](int32_t c) { return (with_work >> c & 1) != 0; };
  RowTiles tiles{};
  uint64_t totals[kMaxKernelConfigs] = {};
  uint64_t total = 0;
  FOVEA_NO_UNROLL
  for (int32_t c = 0; c < params.num_configs; ++c) {
    if (!has_work(c)) {
      continue;
    }
    if (params.configs[c].form == PlanForm::list) {
      if (tiles.before == nullptr) {
        tiles = measure_row_tiles(block, params, s, source, mask.range, groups.row_tiles, groups.config, scratch);
      }
      totals[c] = block.template sum<uint64_t>(tiles.count, [&](int32_t r) {
        const int32_t g = tiles.group[r];
        return groups.config[g] == c ? static_cast<uint64_t>(cost_of_tiles(params.configs[c].cost, tiles.tiles[r].count())) *
                                           static_cast<uint64_t>(source.heads(g, params.num_kv_heads))
                                     : 0;
      });
    } else {
      groups.cost_before[c] = scratch.template take<uint64_t>(n + 1);
      totals[c] = block.scan(
          n, uint64_t{0}, [&](int32_t g) { return groups.config[g] == c ? groups.cost[g] : 0; }, groups.cost_before[c]);
    }
    total += totals[c];
  }

  uint64_t cost_before = 0;
  int32_t used_slots = 0;
  FOVEA_NO_UNROLL
  for (int32_t c = 0; c < params.num_configs; ++c) {
    const Span slots =
        params.fixed_splits ? Span{used_slots, params.max_slots} : slots_of_config(params.max_slots, cost_before, totals[c], total);
    const PlannerSchedule& out = mask.schedules[c];
    if (params.configs[c].form == PlanForm::ranges) {
      used_slots += write_ranges(block, params, s, source, groups, c, totals[c], slots, out, scratch);
    } else if (has_work(c)) {
      used_slots += write_list(block, params, s, source, tiles, groups.config, c, totals[c], slots, out, scratch);
    } else {
      block.once([&] { *out.num_items = *out.num_merges = 0; });
    }
    cost_before += totals[c];
  }
  block.once([&] { *mask.num_slots = used_slots; });
}

}  // namespace fovea
