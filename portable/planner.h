// The planner kernel's second half: who computes what for one mask, by portable/schedule.h, with scans where the host has loops. Bit for
// bit what src/schedule/ writes.
//   groups: tiles of each -> totals -> ranges: places of boundaries, later(), slots and merges -> cursors
//                                   -> lists: portable/planner_list.h
#pragma once

#include "portable/planner_batch.h"
#include "portable/planner_list.h"
#include "portable/schedule.h"

namespace fovea {

struct RangeCounts {
  int32_t slots, merges;
  FOVEA_FN RangeCounts operator+(RangeCounts other) const { return {slots + other.slots, merges + other.merges}; }
};

/// Groups as schedules need them, and what is wrong with them.
template <class Block, class Source>
FOVEA_DEVICE_FN void measure_groups(Block& block, const PlannerParams& params, PlannerState& s, const Source& source, KvRange range,
                                    const GroupArrays& all) {
  block.each(all.count, [&](int32_t g) {
    const SourcedGroup x = source.group(g);
    if (x.bad_rows) {
      block.lower(&s.void_error, static_cast<int32_t>(BatchError::qo_indptr));
    }
    if (x.bad_request) {
      block.lower(&s.bad_request, g);
    }
    if (x.error != BatchError::none) {
      block.lower(&s.bad_group, g);
    }
    const PlannedGroup group = planned_group(params, x.group, source.by_index(x.group));
    int32_t visible = 0;
    if (group.config >= 0) {
      if (params.configs[group.config].form == PlanForm::ranges) {
        visible = tiles_of_rows(params, range, group, 0, group.packed_rows).count();
      }
      block.set_bits(&s.used_configs, 1 << group.config);
    }
    all.groups[g] = group;
    all.visible_tiles[g] = visible;
  });
}

/// The place of boundary w, as BoundaryWalk (src/schedule/ranges.cc) finds it.
FOVEA_FN RangePlace place_of_boundary(const PlannerParams& params, const GroupArrays& all, int32_t c, int32_t w, uint64_t total,
                                      uint64_t share, Span slots) {
  const uint64_t offset = share * static_cast<uint64_t>(w);
  if (offset >= total) {
    return {all.count, 0, 0};
  }
  // The last group with cost_before <= offset is of this configuration: others have no width.
  const uint64_t* before = all.cost_before[c];
  const int32_t g = last_not_above(0, all.count, offset, [&](int32_t i) { return before[i]; });
  const bool cut = w > 0 && may_cut(w, params.num_workers, slots.length());
  return range_place(params.configs[c].cost, g, all.groups[g].heads(params.num_kv_heads.value), all.visible_tiles[g], offset - before[g],
                     cut);
}

/// The merge of the unit that boundary w cuts first. `begins`: places of all boundaries; `before`: partial items before each worker.
FOVEA_FN void write_range_merge(const PlannerParams& params, const PlannedGroup& group, int32_t c, const RangePlace* begins,
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
  merge = MergeItem{.row_group = begins[w].group,
                    .kv_head = group.head(begins[w].head),
                    .config = static_cast<uint16_t>(c),
                    .row_begin = 0,
                    .row_end = group.packed_rows,
                    .slot_begin = slots.begin + before[w].slots - 1,
                    .num_slots = before[last].slots - before[w].slots + 2,
                    .reserved = {}};
}

/// Cursors and merges of form ranges. Returns the partial slots used.
template <class Block>
FOVEA_DEVICE_FN int32_t write_ranges(Block& block, const PlannerParams& params, const GroupArrays& all, int32_t c, uint64_t total,
                                     Span slots, const PlannerSchedule& out, PlannerScratch scratch) {
  const int32_t workers = params.num_workers;
  const uint64_t share = share_of(total, workers);
  RangePlace* begins = scratch.template take<RangePlace>(workers + 1);
  RangeCounts* before = scratch.template take<RangeCounts>(workers + 1);
  block.each(workers, [&](int32_t w) { begins[w] = place_of_boundary(params, all, c, w, total, share, slots); });
  // Boundaries that may not cut, or step over small pieces, alone can step back.
  if (block.any(workers - 1, [&](int32_t w) { return is_before(begins[w + 1], begins[w]); })) {
    block.scan_inclusive(workers, begins, [](RangePlace a, RangePlace b) { return later(a, b); });
  }
  const auto begin_of = [&](int32_t w) { return w < workers ? begins[w] : RangePlace{all.count, 0, 0}; };
  const auto begins_one = [&](int32_t w) { return begins_merge(w > 0 ? begins[w - 1] : RangePlace{-1, 0, 0}, begins[w]); };
  const RangeCounts counts = block.scan(
      workers, RangeCounts{0, 0},
      [&](int32_t w) {
        return RangeCounts{partial_items(begins[w], begin_of(w + 1)), static_cast<int32_t>(begins_one(w))};
      },
      before);
  block.each(workers, [&](int32_t w) {
    const RangePlace begin = begins[w], end = begin_of(w + 1);
    out.cursors[w] = WorkerCursor{.group = begin.group,
                                  .tile = begin.tile,
                                  .kv_head = static_cast<uint16_t>(begin.head),
                                  .end_head = static_cast<uint16_t>(end.head),
                                  .end_group = end.group,
                                  .end_tile = end.tile,
                                  .slot = slots.begin + before[w].slots,
                                  .reserved = {}};
    if (begins_one(w)) {
      write_range_merge(params, all.groups[begin.group], c, begins, before, w, slots, out.merges[before[w].merges]);
    }
  });
  block.first([&] {
    *out.num_items = 0;
    *out.num_merges = counts.merges;
  });
  return counts.slots;
}

/// What the groups of every configuration cost together; counts what its form needs.
template <class Block>
FOVEA_DEVICE_FN void total_costs(Block& block, const PlannerParams& params, KvRange range, int32_t used_configs, GroupArrays& all,
                                 RowTiles& tiles, uint64_t* totals, PlannerScratch& scratch) {
  const int32_t kv_heads = params.num_kv_heads.value;
  FOVEA_NO_UNROLL
  for (int32_t c = 0; c < params.num_configs; ++c) {
    totals[c] = 0;
    if ((used_configs >> c & 1) == 0) {
      continue;
    }
    const CostTable cost = params.configs[c].cost;
    if (params.configs[c].form == PlanForm::ranges) {
      all.cost_before[c] = scratch.template take<uint64_t>(all.count + 1);
      totals[c] = block.scan(
          all.count, uint64_t{0},
          [&](int32_t g) {
            const PlannedGroup& group = all.groups[g];
            return group.config == c
                       ? static_cast<uint64_t>(cost_of_tiles(cost, all.visible_tiles[g])) * static_cast<uint64_t>(group.heads(kv_heads))
                       : uint64_t{0};
          },
          all.cost_before[c]);
      continue;
    }
    if (tiles.before == nullptr) {
      tiles = measure_row_tiles(block, params, all, range, scratch);
    }
    totals[c] = block.template sum<uint64_t>(tiles.count, [&](int32_t r) {
      const PlannedGroup& group = all.groups[tiles.group[r]];
      return group.config == c
                 ? static_cast<uint64_t>(cost_of_tiles(cost, tiles.tiles[r].count())) * static_cast<uint64_t>(group.heads(kv_heads))
                 : uint64_t{0};
    });
  }
}

/// One mask group of a plan.
template <class Block, class Source>
FOVEA_DEVICE_FN void write_schedule(Block& block, const PlannerParams& params, PlannerState& s, const Source& source, int32_t num_groups,
                                    int32_t mask_index, PlannerScratch scratch) {
  const PlannerMask& mask = params.masks[mask_index];
  GroupArrays all{};
  all.count = num_groups;
  all.groups = scratch.template take<PlannedGroup>(num_groups);
  all.visible_tiles = scratch.template take<int32_t>(num_groups);
  measure_groups(block, params, s, source, mask.range, all);
  if (mask_index == 0 && params.write_groups) {
    report_errors(block, params, s, source.batch);
  }
  const bool is_void = s.void_error != kNone;
  const int32_t used_configs = is_void ? 0 : s.used_configs;
  all.count = is_void ? 0 : num_groups;

  RowTiles tiles{};
  uint64_t totals[kMaxKernelConfigs];
  total_costs(block, params, mask.range, used_configs, all, tiles, totals, scratch);
  uint64_t total = 0;
  FOVEA_NO_UNROLL
  for (int32_t c = 0; c < params.num_configs; ++c) {
    total += totals[c];
  }

  uint64_t cost_before = 0;
  int32_t used_slots = 0;
  FOVEA_NO_UNROLL
  for (int32_t c = 0; c < params.num_configs; ++c) {
    const PlannerSchedule& out = mask.schedules[c];
    const bool ranges = params.configs[c].form == PlanForm::ranges;
    if (!ranges && (used_configs >> c & 1) == 0) {
      block.first([&] { *out.num_items = *out.num_merges = 0; });
      continue;
    }
    const Span slots =
        params.fixed_splits ? Span{used_slots, params.max_slots} : slots_of_config(params.max_slots, cost_before, totals[c], total);
    used_slots += ranges ? write_ranges(block, params, all, c, totals[c], slots, out, scratch)
                         : write_list(block, params, all, tiles, c, totals[c], slots, out, scratch);
    cost_before += totals[c];
  }
  block.first([&] { *mask.num_slots = used_slots; });
}

/// All that a block does: a mask group's schedule, or (mask groups behind) a share of the batch.
template <class Block>
FOVEA_DEVICE_FN void plan_general(Block& block, const PlannerParams& params, PlannerScratch scratch, int32_t index, int32_t num_blocks) {
  PlannerState& s = *scratch.take<PlannerState>(1);
  if (index >= params.num_masks) {
    write_batch(block, params, s, scratch, index - params.num_masks, num_blocks - params.num_masks);
    return;
  }
  const int32_t num_groups = read_batch<false>(block, params, s);
  const PlannedRequests requests = make_requests(block, s, scratch);
  write_schedule(block, params, s, GeneralSource{s.batch, requests}, num_groups, index, scratch);
}

template <class Block>
FOVEA_DEVICE_FN void plan_simple(Block& block, const PlannerParams& params, PlannerScratch scratch, int32_t index, int32_t num_blocks) {
  PlannerState& s = *scratch.take<PlannerState>(1);
  if (index >= params.num_masks) {
    write_simple_batch(block, params, s, index - params.num_masks, num_blocks - params.num_masks);
    return;
  }
  const int32_t num_groups = read_batch<true>(block, params, s);
  write_schedule(block, params, s, SimpleSource{params.batch}, num_groups, index, scratch);
}

}  // namespace fovea
