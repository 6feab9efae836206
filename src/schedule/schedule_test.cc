// Properties of every plan, over random batches of all formats, masks and policies.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "src/schedule/random_problem.h"

namespace fovea::test {
namespace {

TEST(Schedule, EveryPlanKeepsItsPromises) {
  std::int32_t with_merges = 0, with_ranges = 0, with_composed = 0;
  for (std::uint64_t seed = 0; seed < 6000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    const TestPlan plan(c.problem, c.choice, c.batch, c.range);
    ASSERT_EQ(broken_promise(c.problem, plan), "") << "seed " << seed;
    with_merges += !plan.merges().empty();
    with_ranges += c.choice.configs[0].form == PlanForm::ranges;
    with_composed += c.problem.composed();
  }
  EXPECT_GT(with_merges, 500);
  EXPECT_GT(with_ranges, 500);
  EXPECT_GT(with_composed, 500);
}

TEST(Schedule, SameBatchSameBytesWhateverTheMemoryHeld) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    const TestPlan a(c.problem, c.choice, c.batch, c.range, 0x00);
    const TestPlan b(c.problem, c.choice, c.batch, c.range, 0xff);
    ASSERT_EQ(a.bytes(), b.bytes()) << "seed " << seed;
  }
}

TEST(Schedule, ASmallerWorkspaceMeansFewerSplitsNeverAFailure) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed);
    RandomCase c = random_case(random);
    c.problem.options.policy = Policy::throughput;
    std::int32_t fewer = 1 << 30;
    for (const std::int64_t slots : {1000, 17, 6, 2, 1, 0}) {
      c.problem.options.max_workspace_bytes = 0;
      const PlanCapacity none = plan_capacity(c.problem, c.choice);
      c.problem.options.max_workspace_bytes = none.partial_bytes + slots * none.rows_per_slot * 65 * 4;
      const TestPlan plan(c.problem, c.choice, c.batch, c.range);
      ASSERT_EQ(broken_promise(c.problem, plan), "") << "seed " << seed << ", " << slots << " slots";
      ASSERT_LE(plan.capacity().max_slots, slots);
      ASSERT_LE(plan.num_slots(), slots);
      ASSERT_LE(plan.capacity().partial_bytes, c.problem.options.max_workspace_bytes);
      fewer = slots == 1000 ? plan.num_slots() : fewer;
    }
  }
}

// What the pieces of ranges can cost above a share: the worker's first unit pays `fixed` again; its begin may move back by a fixed part or
// by a piece that a partial state outweighs, its end forward by such a piece; both round to the nearest tile; and it writes at most two
// partial states.
TEST(Schedule, RangesAreBalanced) {
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Random random(seed);
    RandomCase c = random_case(random);
    c.problem.options = {};
    c.choice.configs.resize(1);
    c.choice.configs[0].form = PlanForm::ranges;
    c.choice.configs[0].tile_q = 1 << 20;
    c.choice.configs.push_back(c.choice.configs[0]);  // holds nothing
    c.choice.configs[1].form = PlanForm::list;
    const TestPlan plan(c.problem, c.choice, c.batch, c.range);
    const CostTable& cost = c.choice.configs[0].cost;
    const std::vector<std::uint64_t> workers = plan.view().worker_cost;
    const std::int32_t W = c.choice.num_workers;
    std::uint64_t total = 0;
    for (const std::uint64_t w : workers) {
      total += w;
    }
    const std::uint64_t slack = 2 * cost.fixed + 2 * cost.per_tile + 4 * cost.per_partial;
    const std::uint64_t share = std::max<std::uint64_t>(total / static_cast<std::uint64_t>(W) + 1, cost.least_share);
    ASSERT_LE(*std::max_element(workers.begin(), workers.end()), share + slack) << "seed " << seed;
  }
}

TEST(Schedule, ListsCutWhatIsLongerThanAShare) {
  Problem problem;
  problem.spec.num_kv_heads = problem.spec.num_qo_heads = 1;
  problem.spec.head_dim_vo = 64;
  problem.limits = {.max_requests = 4,
                    .max_query_tokens = 64,
                    .max_query_tokens_per_request = 64,
                    .max_kv_tokens_per_request = 1 << 20,
                    .max_row_groups = 4};
  const Choice choice{.kernel = "test", .configs = {{.tile_q = 16, .tile_kv = 64}}, .num_workers = 10};
  const TestPlan plan(problem, choice, paged_batch(problem, {{1, 64000}, {1, 640}, {1, 100}}), KvRange{.right = 0, .exact = 1});
  // 1000 + 10 + 2 tiles for 10 workers: a share is 101.5 tiles, so the first request falls into ten chunks of 100.
  EXPECT_EQ(plan.num_slots(), 10);
  ASSERT_EQ(plan.items().size(), 12u);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(plan.items()[i].col_end - plan.items()[i].col_begin, 6400);
    EXPECT_EQ(plan.items()[i].partial_slot, static_cast<std::int32_t>(i));
  }
}

TEST(Schedule, CostBucketsGrowWithCosts) {
  for (std::uint32_t cost = 1; cost < 20000; ++cost) {
    ASSERT_LE(cost_bucket(cost), cost_bucket(cost + 1)) << cost;
    ASSERT_GE(cost_bucket(cost), 0) << cost;
    if (cost >= 64 && cost < 4096) {
      ASSERT_LT(cost_bucket(cost), cost_bucket(cost + cost / 4 + 1)) << cost;  // what a bucket holds differs by a quarter at most
    }
  }
  EXPECT_EQ(cost_bucket(4095) + 1, cost_bucket(4096));
  EXPECT_EQ(cost_bucket(8191) + 1, cost_bucket(8192));
  EXPECT_EQ(cost_bucket(0xffffffffu), kNumCostBuckets - 1);
}

TEST(Schedule, ListsStartWithTheLongestBucketAndKeepUnitOrderInside) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    const TestPlan plan(c.problem, c.choice, c.batch, c.range);
    const KernelParams& params = plan.params();
    for (std::int32_t i = 0; i < params.num_configs; ++i) {
      const KernelConfig& config = params.configs[i];
      const ScheduleView& s = params.plan.schedules[i];
      const auto bucket = [&](const WorkItem& item) {
        const RowGroup& group = params.plan.groups[item.row_group];
        const VisibleTiles tiles = unit_tiles(group, c.range, item.row_begin, item.row_end, c.problem.group_size, config.tile_kv,
                                              params.kv[group.format].by_index != 0);
        std::int32_t visible = 0;
        for (std::int32_t n = 0; n < tiles.count(); ++n) {
          visible += tiles.tile(n) * config.tile_kv >= item.col_begin && tiles.tile(n) * config.tile_kv < item.col_end;
        }
        return cost_bucket(cost_of_tiles(config.cost, visible));
      };
      const auto place = [](const WorkItem& item) { return std::tuple(item.row_group, item.kv_head, item.row_begin, item.col_begin); };
      for (std::int32_t n = 1; n < *s.num_items; ++n) {
        const WorkItem& a = s.items[n - 1];
        const WorkItem& b = s.items[n];
        ASSERT_TRUE(bucket(a) > bucket(b) || (bucket(a) == bucket(b) && place(a) < place(b))) << "seed " << seed << ", item " << n;
      }
    }
  }
}

/// A request's items as they are without its neighbours: rows, columns, and whether they are partial.
std::vector<std::array<std::int32_t, 6>> items_of_request(const TestPlan& plan, std::int32_t request) {
  std::vector<std::array<std::int32_t, 6>> items;
  for (const WorkItem& item : plan.items()) {
    if (plan.params().plan.groups[item.row_group].request == request) {
      items.push_back({item.kv_head, item.row_begin, item.row_end, item.col_begin, item.col_end, item.partial_slot >= 0});
    }
  }
  std::sort(items.begin(), items.end());
  return items;
}

TEST(Schedule, FixedSplitsDontDependOnNeighbours) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    Random random(seed);
    Problem problem;
    problem.group_size = random.pick({1, 3, 8});
    problem.spec.num_kv_heads = 2;
    problem.spec.num_qo_heads = 2 * problem.group_size;
    problem.spec.head_dim_vo = 64;
    problem.limits = {.max_requests = 16,
                      .max_query_tokens = 400,
                      .max_query_tokens_per_request = 40,
                      .max_kv_tokens_per_request = 9000,
                      .max_kv_tokens = 16 * 9000,
                      .max_row_groups = 16};
    problem.options.policy = seed % 2 == 0 ? Policy::batch_invariant : Policy::fixed_split;
    problem.options.fixed_split = seed % 2 == 0 ? 0 : 256;
    const Choice choice{.kernel = "test", .configs = {{.tile_q = 16, .tile_kv = 64}}, .num_workers = random.between(1, 20)};
    std::vector<Lengths> requests;
    for (std::int32_t r = 0; r < random.between(2, 8); ++r) {
      requests.push_back({random.between(1, 40), random.between(0, 9000)});
    }
    const KvRange range{.left = random.one_in(2) ? kUnbounded : 1000, .right = 0, .num_sink = 70, .exact = 1};
    const TestPlan together(problem, choice, paged_batch(problem, requests), range);
    for (std::size_t r = 0; r < requests.size(); ++r) {
      const TestPlan alone(problem, choice, paged_batch(problem, {requests[r]}), range);
      ASSERT_EQ(items_of_request(together, static_cast<std::int32_t>(r)), items_of_request(alone, 0))
          << "seed " << seed << ", request " << r;
    }
  }
}

TEST(Schedule, FixedSplitCutsEverySplitAndNoWiderGroups) {
  Problem problem;
  problem.group_size = 4;
  problem.spec.num_kv_heads = 1;
  problem.spec.num_qo_heads = 4;
  problem.spec.head_dim_vo = 64;
  problem.limits = {.max_requests = 4,
                    .max_query_tokens = 64,
                    .max_query_tokens_per_request = 64,
                    .max_kv_tokens_per_request = 4096,
                    .max_kv_tokens = 3 * 4096,
                    .max_row_groups = 4};
  problem.options = {.policy = Policy::fixed_split, .fixed_split = 512};
  const Choice choice{.kernel = "test", .configs = {{.tile_q = 64, .tile_kv = 64}}, .num_workers = 4};
  const TestPlan plan(problem, choice, paged_batch(problem, {{16, 2000}, {17, 2000}, {1, 512}}), KvRange{.right = 0, .exact = 1});
  EXPECT_EQ(items_of_request(plan, 0).size(), 4u);  // 64 packed rows
  EXPECT_EQ(items_of_request(plan, 1).size(), 2u);  // 68 packed rows: two row tiles, neither cut
  EXPECT_EQ(items_of_request(plan, 2).size(), 1u);
  EXPECT_EQ(plan.num_slots(), 4);
}

}  // namespace
}  // namespace fovea::test
