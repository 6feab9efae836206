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
  uint64_t* cost;          // of all its heads; of a group of several row tiles 0 until those are counted
  uint64_t* cost_before;   // of the configuration at hand, one more than groups
  int32_t* visible_tiles;  // of a group of one row tile
  int32_t* row_tiles;
  int32_t* config;  // -1: no rows, no work
};

struct RangeCounts {
  int32_t slots, merges;
  FOVEA_FN RangeCounts operator+(RangeCounts other) const { return {slots + other.slots, merges + other.merges}; }
};

FOVEA_FN int32_t heads_of_group(const PlannerParams& params, const BatchView& b, int32_t g) {
  return b.formats[format_of_group(b, g)].heads_per_set > 1 ? 1 : params.num_kv_heads;
}

FOVEA_CALLED_FN VisibleTiles row_tile_of(const PlannerParams& params, const BatchView& b, KvRange range, const RowGroup& group, int32_t c,
                                         int32_t t) {
  const int32_t rows = rows_per_tile(params.configs[c], params.group_size);
  return unit_tiles(group, range, t * rows, min_((t + 1) * rows, packed_rows_of(group, params.group_size)), params.group_size,
                    params.configs[c].tile_kv, b.formats[group.format].by_index != 0);
}

/// Tiles and costs of every group, and what is wrong with it where `report` says.
template <class Block>
FOVEA_DEVICE_FN void measure_groups(Block& block, const PlannerParams& params, PlannerState& s, KvRange range, bool report,
                                    const GroupArrays& out) {
  const BatchView& b = s.batch;
  block.each(s.num_groups, [&](int32_t g) {
    const RowGroup group = group_of(b, g);
    const FormatView& f = b.formats[group.format];
    if (report && b.deferred && error_of_group(f, g - f.first_group) != BatchError::none) {
      block.lower(&s.bad_group, g);
    }
    const int32_t packed_rows = packed_rows_of(group, params.group_size);
    out.cost[g] = 0;
    out.visible_tiles[g] = out.row_tiles[g] = 0;
    out.config[g] = -1;
    if (packed_rows == 0) {
      return;
    }
    const int32_t c = config_of(params.configs, params.num_configs, packed_rows);
    out.config[g] = c;
    out.row_tiles[g] = ceil_div(packed_rows, rows_per_tile(params.configs[c], params.group_size));
    if (out.row_tiles[g] == 1) {
      const int32_t tiles = row_tile_of(params, b, range, group, c, 0).count();
      out.visible_tiles[g] = tiles;
      out.cost[g] = static_cast<uint64_t>(cost_of_tiles(params.configs[c].cost, tiles)) *
                    static_cast<uint64_t>(num_heads_of(group, params.num_kv_heads));
    }
    block.set_bits(&s.configs_with_work, 1 << c);
  });
}

/// The place of boundary w, as BoundaryWalk (src/schedule/ranges.cc) finds it.
FOVEA_CALLED_FN RangePlace place_of_boundary(const PlannerParams& params, const PlannerState& s, const GroupArrays& groups, int32_t c,
                                             int32_t w, uint64_t total, Span slots) {
  const uint64_t offset = share_of(total, params.num_workers) * static_cast<uint64_t>(w);
  if (offset >= total) {
    return {s.num_groups, 0, 0};
  }
  // The last group with cost_before <= offset is of this configuration: others have no width.
  int32_t lo = 0, hi = s.num_groups;
  while (hi - lo > 1) {
    const int32_t mid = lo + (hi - lo) / 2;
    if (groups.cost_before[mid] <= offset) {
      lo = mid;
    } else {
      hi = mid;
    }
  }
  const bool cut = w > 0 && may_cut(w, params.num_workers, slots.length());
  return range_place(params.configs[c].cost, lo, heads_of_group(params, s.batch, lo), groups.visible_tiles[lo],
                     offset - groups.cost_before[lo], cut);
}

/// The merge of the unit that boundary w cuts first. `begins`: places of all boundaries; slots: partial items before each worker.
FOVEA_CALLED_FN void write_range_merge(const PlannerParams& params, const BatchView& b, int32_t c, const RangePlace* begins,
                                       const RangeCounts* before, int32_t w, Span slots, MergeItem& merge) {
  int32_t last = w, hi = params.num_workers;  // the last boundary inside the same unit
  const RangePlace end_of_unit{begins[w].group, begins[w].head, kNone};
  while (hi - last > 1) {
    const int32_t mid = last + (hi - last) / 2;
    if (is_before(begins[mid], end_of_unit)) {
      last = mid;
    } else {
      hi = mid;
    }
  }
  const RowGroup group = group_of(b, begins[w].group);
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
template <class Block, class Scratch>
FOVEA_DEVICE_FN int32_t write_ranges(Block& block, const PlannerParams& params, const PlannerState& s, const GroupArrays& groups, int32_t c,
                                     uint64_t total, Span slots, const PlannerSchedule& out, Scratch scratch) {
  const int32_t workers = params.num_workers;
  RangePlace* begins = scratch.template take<RangePlace>(workers + 1);
  RangeCounts* before = scratch.template take<RangeCounts>(workers + 1);
  const auto place = [&](int32_t w) { return place_of_boundary(params, s, groups, c, w, total, slots); };
  block.each(workers, [&](int32_t w) { begins[w] = place(w); });
  block.scan_inclusive(workers, begins, [](RangePlace a, RangePlace b) { return later(a, b); });
  block.once([&] { begins[workers] = {s.num_groups, 0, 0}; });
  const auto counts = [&](int32_t w) {
    const RangePlace previous = w > 0 ? begins[w - 1] : RangePlace{-1, 0, 0};
    return RangeCounts{partial_items(begins[w], begins[w + 1]), static_cast<int32_t>(begins_merge(previous, begins[w]))};
  };
  const RangeCounts all = block.scan(workers, RangeCounts{0, 0}, counts, before);
  block.each(workers, [&](int32_t w) {
    WorkerCursor& cursor = out.cursors[w];
    cursor.group = begins[w].group;
    cursor.tile = begins[w].tile;
    cursor.kv_head = static_cast<uint16_t>(begins[w].head);
    cursor.end_head = static_cast<uint16_t>(begins[w + 1].head);
    cursor.end_group = begins[w + 1].group;
    cursor.end_tile = begins[w + 1].tile;
    cursor.slot = slots.begin + before[w].slots;
    cursor.reserved[0] = cursor.reserved[1] = 0;
    if (counts(w).merges > 0) {
      write_range_merge(params, s.batch, c, begins, before, w, slots, out.merges[before[w].merges]);
    }
  });
  block.once([&] {
    *out.num_items = 0;
    *out.num_merges = all.merges;
  });
  return all.slots;
}

/// One mask group of a plan.
template <class Block, class Scratch>
FOVEA_DEVICE_FN void write_schedule(Block& block, const PlannerParams& params, PlannerState& s, int32_t mask_index, Scratch scratch) {
  read_batch(block, params, s);
  const PlannerMask& mask = params.masks[mask_index];
  const bool reports = mask_index == 0 && params.write_groups;
  const int32_t n = s.num_groups;
  GroupArrays groups;
  groups.cost = scratch.template take<uint64_t>(n);
  groups.cost_before = scratch.template take<uint64_t>(n + 1);
  groups.visible_tiles = scratch.template take<int32_t>(n);
  groups.row_tiles = scratch.template take<int32_t>(n);
  groups.config = scratch.template take<int32_t>(n);
  measure_groups(block, params, s, mask.range, reports, groups);
  if (reports) {
    report_errors(block, params, s);
  }

  const int32_t with_work = block.shared(&s.configs_with_work);
  RowTiles tiles{};
  uint64_t totals[kMaxKernelConfigs] = {};
  uint64_t total = 0;
  bool any_list = false;
  for (int32_t c = 0; c < params.num_configs; ++c) {
    any_list |= params.configs[c].form == PlanForm::list && (with_work >> c & 1) != 0;
  }
  if (any_list) {
    tiles = measure_row_tiles(block, params, s, mask.range, groups.row_tiles, groups.config, scratch);
  }
  for (int32_t c = 0; c < params.num_configs; ++c) {
    if ((with_work >> c & 1) == 0) {
      continue;
    }
    totals[c] = params.configs[c].form == PlanForm::list
                    ? block.template sum<uint64_t>(tiles.count, [&](int32_t r) { return tiles.cost(params, s.batch, groups.config, c, r); })
                    : block.template sum<uint64_t>(n, [&](int32_t g) { return groups.config[g] == c ? groups.cost[g] : 0; });
    total += totals[c];
  }

  uint64_t cost_before = 0;
  int32_t used_slots = 0;
  for (int32_t c = 0; c < params.num_configs; ++c) {
    const Span slots =
        params.fixed_splits ? Span{used_slots, params.max_slots} : slots_of_config(params.max_slots, cost_before, totals[c], total);
    const PlannerSchedule& out = mask.schedules[c];
    if (params.configs[c].form == PlanForm::list) {
      used_slots += write_list(block, params, s, tiles, groups.config, c, totals[c], slots, out, scratch);
    } else {
      block.scan(
          n, uint64_t{0}, [&](int32_t g) { return groups.config[g] == c ? groups.cost[g] : 0; }, groups.cost_before);
      used_slots += write_ranges(block, params, s, groups, c, totals[c], slots, out, scratch);
    }
    cost_before += totals[c];
  }
  block.once([&] { *mask.num_slots = used_slots; });
}

}  // namespace fovea
