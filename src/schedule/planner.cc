#include "src/schedule/planner.h"

#include <algorithm>
#include <cmath>

#include "portable/planner.h"
#include "src/support/check.h"

namespace fovea {

namespace {

std::int64_t array_bytes(std::int64_t count, std::size_t bytes) {
  return ceil_div(count * static_cast<std::int64_t>(bytes), std::int64_t{16}) * 16;
}

/// Of form ranges.
std::int32_t num_ranges_configs(const PlanCapacity& c) {
  return static_cast<std::int32_t>(std::count(c.max_items, c.max_items + c.num_configs, 0));
}

std::int64_t groups_bytes(const PlanCapacity& c) {
  return array_bytes(c.max_row_groups, sizeof(PlannedGroup)) +
         array_bytes(num_ranges_configs(c) * (std::int64_t{c.max_row_groups} + 1), sizeof(std::uint64_t)) +
         array_bytes(c.num_workers + 1, sizeof(RangePlace)) + array_bytes(c.num_workers + 1, sizeof(RangeCounts));
}

/// Do the costs of a ranges configuration stay below 2^31, whatever the batch? A request's tokens are tokens of one group.
bool costs_are_small(const Problem& problem, const Choice& choice, const PlanCapacity& c) {
  double most = 0;
  for (const KernelConfig& config : choice.configs) {
    const double tiles = std::ceil(static_cast<double>(problem.limits.max_kv_tokens_per_request) / config.tile_kv) + 1;
    most = std::max(most, (config.cost.fixed + config.cost.per_tile * tiles) * static_cast<double>(problem.spec.num_kv_heads));
  }
  return most * c.max_row_groups + c.num_workers < 2147483648.0;
}

}  // namespace

std::int64_t planner_scratch_bytes(const PlanCapacity& c) {
  const std::int64_t groups = c.max_row_groups, tiles = c.max_row_tiles, head_items = tiles + c.max_slots;
  const std::int64_t of_requests = array_bytes(c.max_requests, sizeof(Request)) + array_bytes(c.max_requests, sizeof(std::int32_t));
  const std::int64_t of_tiles =
      array_bytes(groups + 1, sizeof(std::int32_t)) + array_bytes(tiles, sizeof(std::int32_t)) + array_bytes(tiles, sizeof(VisibleTiles));
  const std::int64_t of_lists = array_bytes(tiles + 1, sizeof(ListCounts)) + array_bytes(groups + 1, sizeof(ListCounts)) +
                                array_bytes(head_items, sizeof(HeadItem)) +
                                array_bytes(*std::max_element(c.max_items, c.max_items + c.num_configs), sizeof(std::int32_t));
  return groups_bytes(c) + of_requests + of_tiles + of_lists;
}

PlannerParams planner_params(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch,
                             const PlanArraysMut& arrays) {
  PlannerParams p{};
  p.batch = batch;
  p.num_configs = capacity.num_configs;
  std::copy(choice.configs.begin(), choice.configs.end(), p.configs);
  for (std::int32_t c = 0; c < p.num_configs; ++c) {
    p.rows_of_tile[c] = divisor(rows_per_tile(p.configs[c], problem.group_size));
    p.tile_kv[c] = divisor(p.configs[c].tile_kv);
    p.cost_per_tile[c] = divisor(static_cast<std::int32_t>(p.configs[c].cost.per_tile));
  }
  p.num_ranges_configs = num_ranges_configs(capacity);
  p.groups_bytes = groups_bytes(capacity);
  p.num_workers = capacity.num_workers;
  p.num_kv_heads = divisor(static_cast<std::int32_t>(problem.spec.num_kv_heads));
  p.group_size = divisor(problem.group_size);
  p.max_row_groups = capacity.max_row_groups;
  p.max_slots = capacity.max_slots;
  p.fixed_splits = problem.options.policy != Policy::throughput;
  p.split_tokens = capacity.split_tokens;
  p.whole_formats = problem.options.policy == Policy::batch_invariant ? shared_formats(batch) : 0u;
  p.max_kv_tokens = problem.limits.max_kv_tokens;
  p.requests = arrays.requests;
  p.groups = arrays.groups;
  p.row_refs = arrays.row_refs;
  p.composed = arrays.composed;
  p.num_groups = arrays.num_groups;
  p.num_composed = arrays.num_composed;
  p.planned_requests = arrays.num_requests;
  p.write_groups = 1;
  p.simple = is_simple(batch) && !p.fixed_splits;
  p.small = costs_are_small(problem, choice, capacity);
  FOVEA_ASSERT(p.num_workers < kMaxPlannedWorkers, "{} workers", p.num_workers);
  return p;
}

void add_mask(PlannerParams& params, const PlanCapacity& capacity, const PlanArraysMut& arrays, std::int32_t mask_group, KvRange range) {
  FOVEA_ASSERT(params.num_masks < kMaxMasksOfLaunch, "{} masks of a launch", params.num_masks + 1);
  const MaskGroupArrays& from = arrays.mask_groups[static_cast<std::size_t>(mask_group)];
  PlannerMask& mask = params.masks[params.num_masks++];
  mask.range = range;
  mask.num_slots = from.num_slots;
  for (std::int32_t c = 0; c < params.num_configs; ++c) {
    const ScheduleArrays& s = from.schedules[c];
    mask.schedules[c] = {.cursors = s.cursors,
                         .items = s.items,
                         .merges = s.merges,
                         .num_items = s.num_items,
                         .num_merges = s.num_merges,
                         .max_items = capacity.max_items[c],
                         .max_merges = capacity.max_merges[c]};
  }
}

}  // namespace fovea
