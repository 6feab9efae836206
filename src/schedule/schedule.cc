// Spreads a mask group's work: tiles and costs of every group once, then one assignment per kernel configuration.
#include "src/schedule/assign.h"
#include "src/support/check.h"

namespace fovea {

namespace {

struct Totals {
  std::uint64_t cost[kMaxKernelConfigs] = {};
};

/// The row tiles of a group, their visible tiles appended to `row_tiles`; their cost on one kv head.
std::uint64_t measure_row_tiles(const RowGroup& group, const KernelConfig& config, KvRange range, std::int32_t group_size, bool by_index,
                                VisibleTiles* row_tiles, std::int32_t num_row_tiles) {
  const std::int32_t packed_rows = packed_rows_of(group, group_size);
  const std::int32_t rows = rows_per_tile(config, group_size);
  std::uint64_t cost = 0;
  for (std::int32_t t = 0; t < num_row_tiles; ++t) {
    row_tiles[t] = unit_tiles(group, range, t * rows, min_((t + 1) * rows, packed_rows), group_size, config.tile_kv, by_index);
    cost += cost_of_tiles(config.cost, row_tiles[t].count());
  }
  return cost;
}

/// Fills `work` and `row_tiles` for every group.
Totals measure_groups(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch, KvRange range,
                      PlanArraysMut& arrays) {
  Totals totals;
  std::int32_t num_row_tiles = 0;
  const KernelConfig* configs = choice.configs.data();
  const std::int32_t num_groups = *arrays.num_groups;
  for (std::int32_t g = 0; g < num_groups; ++g) {
    const RowGroup& group = arrays.groups[g];
    const std::int32_t packed_rows = packed_rows_of(group, problem.group_size);
    if (packed_rows == 0) {
      arrays.work[g] = {.cost_before = 0, .config = -1, .heads = 0, .num_row_tiles = 0, .first_row_tile = num_row_tiles};
      continue;
    }
    const std::int32_t c = config_of(configs, capacity.num_configs, packed_rows);
    const std::int32_t rows = rows_per_tile(configs[c], problem.group_size);
    const std::int32_t count = packed_rows <= rows ? 1 : ceil_div(packed_rows, rows);
    FOVEA_ASSERT(num_row_tiles + count <= capacity.max_row_tiles, "group {} of {} needs row tiles {} .. {}, there is room for {}", g,
                 num_groups, num_row_tiles, num_row_tiles + count, capacity.max_row_tiles);
    const std::uint64_t cost = measure_row_tiles(group, configs[c], range, problem.group_size, batch.formats[group.format].by_index != 0,
                                                 arrays.row_tiles + num_row_tiles, count);
    const std::int32_t heads = num_heads_of(group, problem.spec.num_kv_heads);
    arrays.work[g] = {.cost_before = totals.cost[c], .config = c, .heads = heads, .num_row_tiles = count, .first_row_tile = num_row_tiles};
    totals.cost[c] += cost * static_cast<std::uint64_t>(heads);
    num_row_tiles += count;
  }
  return totals;
}

ChunkRule split_rule(const Problem& problem, const PlanCapacity& capacity, const KernelConfig& config) {
  return {.split_tiles = capacity.split_tokens / config.tile_kv,
          .max_rows = kMaxRowsOfFixedSplit,
          .one_request = problem.options.policy == Policy::batch_invariant};
}

}  // namespace

void schedule(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch, KvRange range,
              std::int32_t mask_group, PlanArraysMut& arrays) {
  const bool throughput = problem.options.policy == Policy::throughput;
  const Totals totals = measure_groups(problem, choice, capacity, batch, range, arrays);
  std::uint64_t total = 0;
  for (const std::uint64_t cost : totals.cost) {
    total += cost;
  }
  const MaskGroupArrays& out = arrays.mask_groups[static_cast<std::size_t>(mask_group)];
  std::uint64_t cost_before = 0;
  std::int32_t used_slots = 0;
  for (std::int32_t c = 0; c < capacity.num_configs; ++c) {
    const KernelConfig& config = choice.configs[static_cast<std::size_t>(c)];
    const Assignment assignment{.config = config,
                                .config_index = c,
                                .num_workers = capacity.num_workers,
                                .num_kv_heads = problem.spec.num_kv_heads,
                                .group_size = problem.group_size,
                                .composed = problem.composed(),
                                .total_cost = totals.cost[c],
                                .slots = throughput ? slots_of_config(capacity.max_slots, cost_before, totals.cost[c], total)
                                                    : Span{used_slots, capacity.max_slots},
                                .groups = {arrays.groups, static_cast<std::size_t>(*arrays.num_groups)},
                                .work = arrays.work,
                                .row_tiles = arrays.row_tiles,
                                .out = out.schedules[c],
                                .max_items = capacity.max_items[c],
                                .max_merges = capacity.max_merges[c]};
    if (config.form == PlanForm::ranges) {
      used_slots += assign_ranges(assignment);
    } else if (throughput) {
      used_slots += assign_list(assignment, throughput_rule(config.cost, totals.cost[c], capacity.num_workers, assignment.slots.length()));
    } else {
      used_slots += assign_list(assignment, split_rule(problem, capacity, config));
    }
    cost_before += totals.cost[c];
  }
  *out.num_slots = used_slots;
}

}  // namespace fovea
