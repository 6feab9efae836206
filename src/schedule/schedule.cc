// Spreads a mask group's work: tiles and costs of every group once, then one assignment per kernel configuration.
#include <bit>

#include "src/schedule/assign.h"
#include "src/support/check.h"

namespace fovea {

namespace {

struct Totals {
  std::uint64_t cost[kMaxKernelConfigs] = {};
};

/// A configuration as the loop over groups reads it.
struct RowTiling {
  const KernelConfig* config;
  std::int32_t rows;    // packed rows of a row tile
  std::int32_t tokens;  // query tokens of a row tile; 0: a token takes several
};

/// Measures groups; `TileKv` is a number or a power of two for every configuration, so that common tiles need no division.
template <class TileKv>
class GroupMeter {
 public:
  GroupMeter(const Problem& problem, KvRange range, const RowTiling& tiling, TileKv tile_kv)
      : problem_(problem), range_(range), tiling_(tiling), tile_kv_(tile_kv) {}

  /// Visible tiles of every row tile of the group into `row_tiles`; their cost on one kv head.
  std::uint64_t measure(const RowGroup& group, bool by_index, std::int32_t num_row_tiles, VisibleTiles* row_tiles) const {
    std::uint64_t cost = 0;
    for (std::int32_t t = 0; t < num_row_tiles; ++t) {
      row_tiles[t] = visible_tiles(visible_columns(group, range_, positions(group, t), by_index), tile_kv_);
      cost += cost_of_tiles(tiling_.config->cost, row_tiles[t].count());
    }
    return cost;
  }

 private:
  /// query_positions() of row tile t, without its divisions where tiles are whole tokens.
  QueryPositions positions(const RowGroup& group, std::int32_t t) const {
    if (tiling_.tokens == 0 || group.rows >= 0) {
      const std::int32_t packed_rows = packed_rows_of(group, problem_.group_size);
      return query_positions(group, t * tiling_.rows, min_((t + 1) * tiling_.rows, packed_rows), problem_.group_size);
    }
    return {group.q_pos + t * tiling_.tokens, group.q_pos + min_((t + 1) * tiling_.tokens, group.num_q_rows) - 1};
  }

  const Problem& problem_;
  const KvRange range_;
  const RowTiling& tiling_;
  const TileKv tile_kv_;
};

std::uint64_t measure_group(const Problem& problem, KvRange range, const RowTiling& tiling, const RowGroup& group, bool by_index,
                            std::int32_t num_row_tiles, VisibleTiles* row_tiles) {
  const std::uint32_t tile_kv = static_cast<std::uint32_t>(tiling.config->tile_kv);
  if ((tile_kv & (tile_kv - 1)) == 0) {  // not std::has_single_bit: a library call without popcnt
    return GroupMeter(problem, range, tiling, PowerOfTwo{std::countr_zero(tile_kv)}).measure(group, by_index, num_row_tiles, row_tiles);
  }
  return GroupMeter(problem, range, tiling, tiling.config->tile_kv).measure(group, by_index, num_row_tiles, row_tiles);
}

/// Fills `work` and `row_tiles` for every group.
Totals measure_groups(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch, KvRange range,
                      PlanArraysMut& arrays) {
  Totals totals;
  RowTiling tilings[kMaxKernelConfigs];
  for (std::int32_t c = 0; c < capacity.num_configs; ++c) {
    const KernelConfig& config = choice.configs[static_cast<std::size_t>(c)];
    tilings[c] = {.config = &config, .rows = rows_per_tile(config, problem.group_size), .tokens = config.tile_q / problem.group_size};
  }
  std::int32_t num_row_tiles = 0;
  const std::int32_t num_groups = *arrays.num_groups;
  for (std::int32_t g = 0; g < num_groups; ++g) {
    const RowGroup& group = arrays.groups[g];
    const std::int32_t packed_rows = packed_rows_of(group, problem.group_size);
    if (packed_rows == 0) {
      arrays.work[g] = {.cost_before = 0, .config = -1, .heads = 0, .num_row_tiles = 0, .first_row_tile = num_row_tiles};
      continue;
    }
    const std::int32_t c = config_of(choice.configs.data(), capacity.num_configs, packed_rows);
    const std::int32_t count = packed_rows <= tilings[c].rows ? 1 : ceil_div(packed_rows, tilings[c].rows);
    FOVEA_ASSERT(num_row_tiles + count <= capacity.max_row_tiles, "group {} of {} needs row tiles {} .. {}, there is room for {}", g,
                 num_groups, num_row_tiles, num_row_tiles + count, capacity.max_row_tiles);
    const std::uint64_t cost = measure_group(problem, range, tilings[c], group, batch.formats[group.format].by_index != 0, count,
                                             arrays.row_tiles + num_row_tiles);
    const std::int32_t heads = num_heads_of(group, problem.spec.num_kv_heads);
    arrays.work[g] = {.cost_before = totals.cost[c], .config = c, .heads = heads, .num_row_tiles = count, .first_row_tile = num_row_tiles};
    totals.cost[c] += cost * static_cast<std::uint64_t>(heads);
    num_row_tiles += count;
  }
  return totals;
}

ChunkRule split_rule(const Problem& problem, const PlanCapacity& capacity, const BatchView& batch, const KernelConfig& config) {
  return {.split_tiles = capacity.split_tokens / config.tile_kv,
          .max_rows = kMaxRowsOfFixedSplit,
          .whole_formats = problem.options.policy == Policy::batch_invariant ? shared_formats(batch) : 0u};
}

}  // namespace

std::uint32_t shared_formats(const BatchView& batch) {
  std::uint32_t formats = 0;
  for (std::int32_t i = 0; i < batch.num_formats; ++i) {
    const FormatView& f = batch.formats[i];
    formats |= f.row_indptr != nullptr || f.block_rows > 0 ? 1u << i : 0u;
  }
  return formats;
}

WorkBounds schedule(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch, KvRange range,
                    std::int32_t mask_group, PlanArraysMut& arrays) {
  const bool throughput = problem.options.policy == Policy::throughput;
  const Totals totals = measure_groups(problem, choice, capacity, batch, range, arrays);
  std::uint64_t total = 0;
  for (const std::uint64_t cost : totals.cost) {
    total += cost;
  }
  const MaskGroupArrays& out = arrays.mask_groups[static_cast<std::size_t>(mask_group)];
  WorkBounds work{.items = {}, .merges = 0, .composed_rows = *arrays.num_composed};
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
      used_slots += assign_list(assignment, split_rule(problem, capacity, batch, config));
    }
    cost_before += totals.cost[c];
    const bool ranges = config.form == PlanForm::ranges;
    work.items[c] = !ranges ? *out.schedules[c].num_items : totals.cost[c] > 0 ? capacity.num_workers : 0;
    work.merges += *out.schedules[c].num_merges;
  }
  *out.num_slots = used_slots;
  return work;
}

}  // namespace fovea
