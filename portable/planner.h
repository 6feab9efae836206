// The planner kernel's second half: who computes what for one mask, by portable/schedule.h, with scans where the host has loops. Bit for
// bit what src/schedule/ writes.
//   groups: tiles of each -> totals -> ranges: places of boundaries, later(), slots and merges -> cursors
//                                   -> lists: portable/planner_list.h
#pragma once

#include "portable/planner_batch.h"
#include "portable/planner_list.h"
#include "portable/schedule.h"

namespace fovea {

/// Partial items and merges, in one word: a worker has at most two partial items.
struct RangeCounts {
  uint32_t both;
  FOVEA_FN int32_t slots() const { return static_cast<int32_t>(both >> 15); }
  FOVEA_FN int32_t merges() const { return static_cast<int32_t>(both & 0x7fffu); }
  FOVEA_FN RangeCounts operator+(RangeCounts other) const { return {both + other.both}; }
};
inline constexpr int32_t kMaxPlannedWorkers = 1 << 15;

/// Of the boundaries between workers, one more than workers; a configuration at a time.
struct Boundaries {
  RangePlace* begins;
  RangeCounts* before;  // partial items and merges before each worker
};

/// A program for costs that together stay below 2^31, with arrays in shared memory, and one for all.
template <bool kSmall>
struct Program {
  using Cost = uint64_t;
  FOVEA_FN static uint32_t per_tile(const PlannerParams& params, int32_t c) { return params.configs[c].cost.per_tile; }
};
template <>
struct Program<true> {
  using Cost = uint32_t;
  FOVEA_FN static Divisor per_tile(const PlannerParams& params, int32_t c) { return params.cost_per_tile[c]; }
};

/// Groups as schedules need them, and what is wrong with them.
template <class Block, class Source>
FOVEA_DEVICE_FN void plan_groups(Block& block, const PlannerParams& params, PlannerState& s, const Source& source, KvRange range,
                                 const PlannedGroups& all) {
  block.each(all.count, [&](int32_t g) {
    const SourcedGroup x = source.group(g);
    if (x.bad_rows | x.bad_request | x.bad_group) {
      block.lower(&s.void_error, x.bad_rows ? static_cast<int32_t>(BatchError::qo_indptr) : kNone);
      block.lower(&s.bad_request, x.bad_request ? g : kNone);
      block.lower(&s.bad_group, x.bad_group ? g : kNone);
    }
    const PlannedGroup group = planned_group(params, x.group, source.by_index(x.group), range);
    if (group.config >= 0) {
      block.set_bits(&s.used_configs, 1 << group.config);
    }
    all.groups[g] = group;
  });
}

/// The place of boundary w, as BoundaryWalk (src/schedule/ranges.cc) finds it.
template <bool kSmall, class Cost>
FOVEA_FN RangePlace place_of_boundary(const PlannerParams& params, const PlannedGroups& all, const Cost* before, int32_t c, int32_t w,
                                      Cost total, Cost share, Span slots) {
  const uint64_t far = static_cast<uint64_t>(share) * static_cast<uint64_t>(w);
  if (far >= total) {
    return {all.count, 0, 0};
  }
  const Cost offset = static_cast<Cost>(far);
  // The last group with a cost before it that is <= offset is of this configuration: others have no width.
  const int32_t g = last_not_above(0, all.count, offset, [&](int32_t i) { return before[i]; });
  const bool cut = w > 0 && may_cut(w, params.num_workers, slots.length());
  return range_place(params.configs[c].cost, Program<kSmall>::per_tile(params, c), g, all.groups[g].heads(params.num_kv_heads.value),
                     all.groups[g].tiles, static_cast<Cost>(offset - before[g]), cut);
}

/// The merge of the unit that boundary w cuts first. `begins`: places of all boundaries; `before`: partial items before each worker.
FOVEA_FN void write_range_merge(const PlannerParams& params, const PlannedGroup& group, int32_t c, const RangePlace* begins,
                                const RangeCounts* before, int32_t w, Span slots, MergeItem& merge) {
  const RangePlace end_of_unit{begins[w].group, begins[w].head, kNone};
  int32_t last = w,
          hi = params.num_workers;  // the last boundary inside the same unit
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
                    .slot_begin = slots.begin + before[w].slots() - 1,
                    .num_slots = before[last].slots() - before[w].slots() + 2,
                    .reserved = {}};
}

/// Partial items and merges before every worker; returns those of all. Notes where a boundary steps back.
template <class Block>
FOVEA_DEVICE_FN RangeCounts count_pieces(Block& block, PlannerState& s, const RangePlace* begins, int32_t workers, int32_t num_groups,
                                         RangeCounts* before) {
  return block.scan(
      workers, RangeCounts{0},
      [&](int32_t w) {
        const RangePlace begin = begins[w], end = w + 1 < workers ? begins[w + 1] : RangePlace{num_groups, 0, 0};
        if (is_before(end, begin)) {
          s.steps_back = 1;
        }
        const bool merge = begins_merge(w > 0 ? begins[w - 1] : RangePlace{-1, 0, 0}, begin);
        return RangeCounts{static_cast<uint32_t>(partial_items(begin, end)) << 15 | static_cast<uint32_t>(merge)};
      },
      before);
}

/// Cursors and merges of form ranges. Returns the partial slots used.
template <bool kSmall, class Block, class Cost>
FOVEA_DEVICE_FN int32_t write_ranges(Block& block, const PlannerParams& params, PlannerState& s, const PlannedGroups& all,
                                     const Cost* cost_before, int32_t c, Cost total, Span slots, const PlannerSchedule& out,
                                     const Boundaries& boundaries) {
  const int32_t workers = params.num_workers;
  const Cost share = share_of_range(params.configs[c].cost, total, workers);
  RangePlace* begins = boundaries.begins;
  RangeCounts* before = boundaries.before;
  block.each(workers, [&](int32_t w) { begins[w] = place_of_boundary<kSmall>(params, all, cost_before, c, w, total, share, slots); });
  RangeCounts counts = count_pieces(block, s, begins, workers, all.count, before);
  // Boundaries that may not cut, or step over small pieces, alone can step back.
  if (block.shared(&s.steps_back) != 0) {
    block.once([&] { s.steps_back = 0; });
    block.scan_inclusive(workers, begins, [](RangePlace a, RangePlace b) { return later(a, b); });
    counts = count_pieces(block, s, begins, workers, all.count, before);
  }
  block.each(workers, [&](int32_t w) {
    const RangePlace begin = begins[w], end = w + 1 < workers ? begins[w + 1] : RangePlace{all.count, 0, 0};
    out.cursors[w] = WorkerCursor{.group = begin.group,
                                  .tile = begin.tile,
                                  .kv_head = static_cast<uint16_t>(begin.head),
                                  .end_head = static_cast<uint16_t>(end.head),
                                  .end_group = end.group,
                                  .end_tile = end.tile,
                                  .slot = slots.begin + before[w].slots(),
                                  .reserved = {}};
    if (before[w + 1].merges() > before[w].merges()) {
      write_range_merge(params, all.groups[begin.group], c, begins, before, w, slots, out.merges[before[w].merges()]);
    }
  });
  block.first([&] {
    *out.num_items = 0;
    *out.num_merges = counts.merges();
  });
  return counts.slots();
}

/// Of configuration c of form list, in row tiles.
template <class Block>
FOVEA_DEVICE_FN uint64_t total_of_list(Block& block, const PlannerParams& params, const PlannedGroups& all, const RowTiles& tiles,
                                       int32_t c) {
  return block.template sum<uint64_t>(tiles.count, [&](int32_t r) {
    const PlannedGroup& group = all.groups[tiles.group[r]];
    const uint64_t cost = cost_of_tiles(params.configs[c].cost, tiles.tiles[r].count());
    return group.config == c ? cost * static_cast<uint64_t>(group.heads(params.num_kv_heads.value)) : uint64_t{0};
  });
}

/// What the groups of every configuration cost, into the shared state; counts what its form needs. Returns the sum. `costs`: of every
/// configuration of form ranges that is used, in order, the cost before each group; one more than groups.
template <class Block, class Cost>
FOVEA_DEVICE_FN uint64_t total_costs(Block& block, const PlannerParams& params, PlannerState& s, KvRange range, int32_t used_configs,
                                     const PlannedGroups& all, Cost* costs, RowTiles& tiles, PlannerScratch& scratch) {
  const int32_t kv_heads = params.num_kv_heads.value;
  uint64_t sum = 0;
  FOVEA_NO_UNROLL
  for (int32_t c = 0; c < params.num_configs; ++c) {
    uint64_t total = 0;
    if ((used_configs >> c & 1) != 0) {
      if (params.configs[c].form == PlanForm::ranges) {
        const CostTable cost = params.configs[c].cost;
        total = block.scan(
            all.count, Cost{0},
            [&](int32_t g) {
              const PlannedGroup& group = all.groups[g];
              const Cost one_head = cost_of_tiles(cost, group.tiles);
              return group.config == c ? one_head * static_cast<Cost>(group.heads(kv_heads)) : Cost{0};
            },
            costs);
        costs += all.count + 1;
      } else {
        if (tiles.before == nullptr) {
          tiles = measure_row_tiles(block, params, all, range, scratch);
        }
        total = total_of_list(block, params, all, tiles, c);
      }
    }
    block.first([&] { s.totals[c] = total; });
    sum += total;
  }
  block.sync();
  return sum;
}

/// One mask group of a plan. kSmall: its arrays, but those of lists, have room in shared memory (PlannerParams::groups_bytes) and are taken
/// before any of a list.
template <bool kSmall, class Block, class Source>
FOVEA_DEVICE_FN void write_schedule(Block& block, const PlannerParams& params, PlannerState& s, const Source& source, int32_t num_groups,
                                    int32_t mask_index, PlannerScratch scratch) {
  using Cost = typename Program<kSmall>::Cost;
  const PlannerMask& mask = params.masks[mask_index];
  PlannedGroups all{num_groups, scratch.template take<PlannedGroup, kSmall>(num_groups)};
  plan_groups(block, params, s, source, mask.range, all);
  if (mask_index == 0 && params.write_groups) {
    report_errors(block, params, s, source.batch);
  }
  const bool is_void = s.void_error != kNone;
  const int32_t used_configs = is_void ? 0 : s.used_configs;
  all.count = is_void ? 0 : num_groups;
  Cost* costs = scratch.template take<Cost, kSmall>(params.num_ranges_configs * (all.count + 1));
  // Before the row tiles of lists, which take what shared memory is left.
  const Boundaries boundaries{scratch.template take<RangePlace, kSmall>(params.num_workers + 1),
                              scratch.template take<RangeCounts, kSmall>(params.num_workers + 1)};
  RowTiles tiles{};
  const uint64_t total = total_costs(block, params, s, mask.range, used_configs, all, costs, tiles, scratch);

  uint64_t cost_before = 0;
  int32_t used_slots = 0;
  FOVEA_NO_UNROLL
  for (int32_t c = 0; c < params.num_configs; ++c) {
    const PlannerSchedule& out = mask.schedules[c];
    const bool ranges = params.configs[c].form == PlanForm::ranges, used = (used_configs >> c & 1) != 0;
    if (!ranges && !used) {
      block.first([&] { *out.num_items = *out.num_merges = 0; });
      continue;
    }
    const uint64_t cost = s.totals[c];
    const Span slots =
        params.fixed_splits ? Span{used_slots, params.max_slots} : slots_of_config(params.max_slots, cost_before, cost, total);
    if (ranges) {
      used_slots += write_ranges<kSmall>(block, params, s, all, costs, c, static_cast<Cost>(cost), slots, out, boundaries);
      costs += used ? all.count + 1 : 0;
    } else {
      used_slots += write_list(block, params, all, tiles, c, cost, slots, out, scratch);
    }
    cost_before += cost;
  }
  block.first([&] { *mask.num_slots = used_slots; });
}

/// All that a block does: a mask group's schedule, or (mask groups behind) a share of the batch. `s`: after reset_state().
template <class Block>
FOVEA_DEVICE_FN void plan_general(Block& block, const PlannerParams& params, PlannerState& s, PlannerScratch scratch, int32_t index,
                                  int32_t num_blocks) {
  if (index >= params.num_masks) {
    write_batch(block, params, s, scratch, index - params.num_masks, num_blocks - params.num_masks);
    return;
  }
  const int32_t num_groups = read_batch<false>(block, params, s);
  const PlannedRequests requests = make_requests(block, s, scratch);
  write_schedule<false>(block, params, s, GeneralSource{s.batch, requests}, num_groups, index, scratch);
}

template <bool kSmall, class Block>
FOVEA_DEVICE_FN void plan_simple(Block& block, const PlannerParams& params, PlannerState& s, PlannerScratch scratch, int32_t index,
                                 int32_t num_blocks) {
  if (index >= params.num_masks) {
    write_simple_batch(block, params, s, index - params.num_masks, num_blocks - params.num_masks);
    return;
  }
  const int32_t num_groups = read_batch<true>(block, params, s);
  write_schedule<kSmall>(block, params, s, SimpleSource{params.batch}, num_groups, index, scratch);
}

}  // namespace fovea
