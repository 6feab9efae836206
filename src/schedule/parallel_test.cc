// The assignment as a planner kernel does it: every boundary on its own by binary search, then scans. Must give the cursors and merges that
// the serial host planner gives, to the bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <tuple>

#include "src/schedule/random_problem.h"

namespace fovea::test {
namespace {

/// The groups of one ranges configuration, and the running cost before each.
struct OrderedGroups {
  std::vector<std::int32_t> group, heads, tiles;
  std::vector<std::uint64_t> cost_before = {0};  // and the total
};

OrderedGroups groups_of_config(const KernelParams& params, std::int32_t c) {
  OrderedGroups ordered;
  const KernelConfig& config = params.configs[c];
  for (std::int32_t g = 0; g < *params.plan.num_groups; ++g) {
    const RowGroup& group = params.plan.groups[g];
    const std::int32_t rows = packed_rows_of(group, params.group_size);
    if (rows == 0 || config_of(params.configs, params.num_configs, rows) != c) {
      continue;
    }
    const bool by_index = params.kv[group.format].by_index != 0;
    ordered.group.push_back(g);
    ordered.heads.push_back(num_heads_of(group, params.num_kv_heads));
    ordered.tiles.push_back(unit_tiles(group, params.plan_range, 0, rows, params.group_size, config.tile_kv, by_index).count());
    ordered.cost_before.push_back(ordered.cost_before.back() +
                                  static_cast<std::uint64_t>(ordered.heads.back()) * cost_of_tiles(config.cost, ordered.tiles.back()));
  }
  return ordered;
}

/// One thread's work: the place of boundary w.
RangePlace boundary(const KernelParams& params, const CostTable& cost, const OrderedGroups& ordered, std::int32_t w,
                    std::int32_t max_slots) {
  const RangePlace end{*params.plan.num_groups, 0, 0};
  const std::uint64_t offset = share_of_range(cost, ordered.cost_before.back(), params.num_workers) * static_cast<std::uint64_t>(w);
  if (w == params.num_workers || offset >= ordered.cost_before.back()) {
    return end;
  }
  const auto next = std::upper_bound(ordered.cost_before.begin(), ordered.cost_before.end(), offset);
  const std::size_t i = static_cast<std::size_t>(next - ordered.cost_before.begin()) - 1;
  return range_place(cost, ordered.group[i], ordered.heads[i], ordered.tiles[i], offset - ordered.cost_before[i],
                     w > 0 && may_cut(w, params.num_workers, max_slots));
}

void expect_same_ranges(const KernelParams& params, std::int32_t c, Span slots) {
  const OrderedGroups ordered = groups_of_config(params, c);
  const std::int32_t workers = params.num_workers;
  std::vector<RangePlace> places(static_cast<std::size_t>(workers) + 1);
  for (std::int32_t w = workers; w >= 0; --w) {  // any order
    places[static_cast<std::size_t>(w)] = boundary(params, params.configs[c].cost, ordered, w, slots.length());
  }
  for (std::size_t w = 1; w < places.size(); ++w) {  // scan: maximum
    places[w] = later(places[w - 1], places[w]);
  }
  const ScheduleView& schedule = params.plan.schedules[c];
  std::int32_t slot = slots.begin, merge = 0;
  for (std::int32_t w = 0; w < workers; ++w) {  // scans: slots, merges
    const RangePlace begin = places[static_cast<std::size_t>(w)], end = places[static_cast<std::size_t>(w) + 1];
    const WorkerCursor& cursor = schedule.cursors[w];
    ASSERT_EQ(std::tie(cursor.group, cursor.tile, cursor.end_group, cursor.end_tile),
              std::tie(begin.group, begin.tile, end.group, end.tile));
    ASSERT_EQ(cursor.kv_head, begin.head);
    ASSERT_EQ(cursor.end_head, end.head);
    ASSERT_EQ(cursor.slot, slot);
    if (w > 0 && begins_merge(places[static_cast<std::size_t>(w) - 1], begin)) {
      ASSERT_EQ(schedule.merges[merge].row_group, begin.group);
      ASSERT_EQ(schedule.merges[merge++].slot_begin, slot - 1);
    }
    slot += partial_items(begin, end);
  }
  ASSERT_EQ(*schedule.num_merges, merge);
  ASSERT_LE(slot, slots.end);
}

/// Cost of every configuration's groups.
std::vector<std::uint64_t> costs_of_configs(const KernelParams& params) {
  std::vector<std::uint64_t> costs(static_cast<std::size_t>(params.num_configs));
  for (std::int32_t g = 0; g < *params.plan.num_groups; ++g) {
    const RowGroup& group = params.plan.groups[g];
    const std::int32_t packed_rows = packed_rows_of(group, params.group_size);
    const std::int32_t c = config_of(params.configs, params.num_configs, packed_rows);
    const KernelConfig& config = params.configs[c];
    const std::int32_t rows = rows_per_tile(config, params.group_size);
    for (std::int32_t row = 0; row < packed_rows; row += rows) {
      const VisibleTiles tiles = unit_tiles(group, params.plan_range, row, min_(row + rows, packed_rows), params.group_size, config.tile_kv,
                                            params.kv[group.format].by_index != 0);
      costs[static_cast<std::size_t>(c)] +=
          static_cast<std::uint64_t>(num_heads_of(group, params.num_kv_heads)) * cost_of_tiles(config.cost, tiles.count());
    }
  }
  return costs;
}

TEST(ParallelPlanner, GivesTheHostPlannersRanges) {
  std::int32_t compared = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    const TestPlan plan(c.problem, c.choice, c.batch, c.range);
    const std::vector<std::uint64_t> costs = costs_of_configs(plan.params());
    const std::uint64_t total = std::accumulate(costs.begin(), costs.end(), std::uint64_t{0});
    std::uint64_t before = 0;
    for (std::size_t i = 0; i < costs.size(); before += costs[i++]) {
      if (c.choice.configs[i].form == PlanForm::ranges) {
        const Span slots = slots_of_config(plan.capacity().max_slots, before, costs[i], total);
        ASSERT_NO_FATAL_FAILURE(expect_same_ranges(plan.params(), static_cast<std::int32_t>(i), slots)) << "seed " << seed;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 500);
}

}  // namespace
}  // namespace fovea::test
