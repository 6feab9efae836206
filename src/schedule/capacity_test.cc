// What a plan has room for: figures that users see, and batches at the limits that must fit.
#include <gtest/gtest.h>

#include "fovea/error.h"
#include "src/schedule/random_problem.h"

namespace fovea::test {
namespace {

Problem decode_problem(std::int32_t requests) {
  Problem p;
  p.group_size = 4;
  p.spec.num_kv_heads = 8;
  p.spec.num_qo_heads = 32;
  p.spec.head_dim_qk = p.spec.head_dim_vo = 128;
  p.limits = {.max_requests = requests,
              .max_query_tokens = requests,
              .max_query_tokens_per_request = requests,
              .max_kv_tokens_per_request = 131072,
              .max_kv_tokens = std::int64_t{requests} * 131072,
              .max_row_groups = requests};
  return p;
}

const Choice kChoice{.kernel = "test",
                     .configs = {{.tile_q = 16, .tile_kv = 64, .form = PlanForm::ranges}, {.tile_q = 64, .tile_kv = 64}},
                     .num_workers = 264};

/// What plan_capacity() says when it throws.
std::string refusal(const Problem& problem, const Choice& choice) {
  try {
    plan_capacity(problem, choice);
  } catch (const InvalidArgument& e) {
    return e.what();
  }
  return "";
}

TEST(Capacity, TwoPartialStatesAWorker) {
  const PlanCapacity c = plan_capacity(decode_problem(256), kChoice);
  EXPECT_EQ(c.max_slots, 2 * 264);
  EXPECT_EQ(c.rows_per_slot, 64);
  EXPECT_EQ(c.partial_bytes, 2 * 264 * 64 * (128 + 1) * 4);
  EXPECT_LT(c.plan_bytes, 1 << 20);
}

TEST(Capacity, SlotsHaveNoMoreRowsThanABatchCan) { EXPECT_EQ(plan_capacity(decode_problem(3), kChoice).rows_per_slot, 12); }

TEST(Capacity, BatchInvariantSlotsHoldOneRequest) {
  Problem p = decode_problem(256);
  p.limits.max_query_tokens_per_request = 2;
  p.options.policy = Policy::batch_invariant;
  const Choice choice{.kernel = "test", .configs = {{.tile_q = 64, .tile_kv = 64}}, .num_workers = 264};
  EXPECT_EQ(plan_capacity(p, choice).rows_per_slot, 8);
}

TEST(Capacity, LimitsBeyond32BitsAreRefused) {
  Problem p = decode_problem(1 << 20);
  p.options = {.policy = Policy::fixed_split, .fixed_split = 64};
  Choice choice = kChoice;
  choice.configs[0].form = PlanForm::list;
  EXPECT_EQ(refusal(p, choice),
            "prepare: these limits need room for 17179869184 partial states; at most 2^31 - 1; lower max_query_tokens, max_row_groups or "
            "max_kv_tokens");
}

TEST(Capacity, WorkspaceBoundsSlotsAfterLevelStates) {
  Problem p = decode_problem(256);
  p.spec.formats = {KvFormat::paged(16), KvFormat::paged(16)};
  p.limits.max_row_groups = 512;
  const std::int64_t slot_bytes = 64 * 129 * 4;
  const std::int64_t level_bytes = std::int64_t{2} * 256 * 32 * 129 * 4;
  p.options.max_workspace_bytes = level_bytes + 10 * slot_bytes;
  EXPECT_EQ(plan_capacity(p, kChoice).max_slots, 10);
  EXPECT_EQ(plan_capacity(p, kChoice).partial_bytes, p.options.max_workspace_bytes);
  p.options.max_workspace_bytes = 1;  // level states are needed whatever the bound
  EXPECT_EQ(plan_capacity(p, kChoice).max_slots, 0);
  EXPECT_EQ(plan_capacity(p, kChoice).partial_bytes, level_bytes);
}

TEST(Capacity, BatchInvariantSplitsGrowUntilTheyFit) {
  Problem p = decode_problem(16);
  p.options.policy = Policy::batch_invariant;
  Choice choice = kChoice;
  choice.configs.erase(choice.configs.begin());
  choice.configs[0].tile_kv = 48;
  const PlanCapacity free_of_bounds = plan_capacity(p, choice);
  EXPECT_EQ(free_of_bounds.split_tokens, 2064);  // 2048, rounded up to whole tiles
  p.options.max_workspace_bytes = free_of_bounds.partial_bytes / 3;
  const PlanCapacity bounded = plan_capacity(p, choice);
  EXPECT_EQ(bounded.split_tokens, 4 * 2064);
  EXPECT_LE(bounded.partial_bytes, p.options.max_workspace_bytes);
}

/// Limits that nobody thought about: without a bound of its own, states would take 4 GiB.
TEST(Capacity, BatchInvariantNeedsNoMoreThanAGigabyteUnasked) {
  Problem p = decode_problem(256);
  p.options.policy = Policy::batch_invariant;
  const Choice choice{.kernel = "test", .configs = {{.tile_q = 64, .tile_kv = 64}}, .num_workers = 264};
  EXPECT_EQ(plan_capacity(p, choice).split_tokens, 16384);
  EXPECT_LE(plan_capacity(p, choice).partial_bytes, std::int64_t{1} << 30);
  p.options.max_workspace_bytes = std::int64_t{1} << 40;
  EXPECT_EQ(plan_capacity(p, choice).split_tokens, 2048);
}

/// The largest limits there are: counts stay inside 64 bits (the undefined-behaviour sanitizer watches) and are refused.
TEST(Capacity, TheLargestLimitsAreCountedRight) {
  Problem p = decode_problem((1 << 29) - 1);
  p.spec.num_kv_heads = p.spec.num_qo_heads = 32768;
  p.group_size = 1;
  p.limits.max_kv_tokens_per_request = (1 << 29) - 1;
  p.limits.max_kv_tokens = std::int64_t{1} << 47;
  p.options = {.policy = Policy::fixed_split, .fixed_split = 32};
  const Choice choice{.kernel = "test", .configs = {{.tile_q = 1, .tile_kv = 32}}, .num_workers = 4};
  EXPECT_NE(refusal(p, choice).find("these limits need room for"), std::string::npos) << refusal(p, choice);
}

TEST(Capacity, FixedSplitsAreNeverStretched) {
  Problem p = decode_problem(16);
  p.options = {.policy = Policy::fixed_split, .fixed_split = 512, .max_workspace_bytes = 1 << 20};
  Choice choice = kChoice;
  choice.configs[0].form = PlanForm::list;
  EXPECT_EQ(
      refusal(p, choice),
      "prepare: fixed_split = 512 can need 32768 partial states of 33024 bytes for these limits, max_workspace_bytes = 1048576 leaves room "
      "for 31; give more, or lower max_kv_tokens, or take a longer split");
  p.options = {.policy = Policy::fixed_split, .fixed_split = 100};
  EXPECT_THROW(plan_capacity(p, choice), InternalError) << "a kernel refuses what its tiles don't divide";
}

/// Cuts `total` into `count` parts of at most `most`, some of them just above a multiple of `step`: the most splits for the least columns.
std::vector<std::int32_t> parts_of(Random& random, std::int64_t total, std::int32_t count, std::int32_t most, std::int32_t step) {
  std::vector<std::int32_t> parts;
  for (std::int32_t i = 0; i < count; ++i) {
    const std::int32_t wanted = random.one_in(3) ? random.between(0, most) : random.between(1, max_(1, most / step)) * step + 1;
    parts.push_back(static_cast<std::int32_t>(min_<std::int64_t>(total, min_(wanted, most))));
    total -= parts.back();
  }
  return parts;
}

// Limits as tight as the batch, lengths chosen to make as many chunks as possible: schedule() throws when room is missing.
TEST(Capacity, FixedSplitsFitAtTheLimits) {
  double fullest = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Random random(seed);
    Problem p;
    p.group_size = random.pick({1, 4, 7, 20});
    p.spec.num_kv_heads = random.between(1, 3);
    p.spec.num_qo_heads = p.spec.num_kv_heads * p.group_size;
    p.spec.head_dim_vo = 64;
    p.spec.formats[0].per_kv_head = random.one_in(4);
    p.options.policy = random.pick({Policy::fixed_split, Policy::batch_invariant});
    p.options.fixed_split = p.options.policy == Policy::fixed_split ? 64 : 0;
    Choice choice{.kernel = "test", .configs = {{.tile_q = random.pick({4, 16, 64, 128}), .tile_kv = 64}}, .num_workers = 4};
    if (p.options.policy == Policy::fixed_split && random.one_in(2)) {
      choice.configs.insert(choice.configs.begin(), KernelConfig{.tile_q = 2, .tile_kv = 32});
    }
    const std::int32_t split = p.options.policy == Policy::fixed_split ? 64 : 2048;
    const std::int32_t requests = random.between(1, 12);
    const std::int32_t groups = requests * (p.spec.formats[0].per_kv_head ? p.spec.num_kv_heads : 1);
    const std::int32_t longest = random.between(1, 6 * split);
    TestBatch batch;
    for (std::int32_t r = 0; r < requests; ++r) {
      batch.qo_indptr.push_back(batch.qo_indptr.back() + random.pick({1, 1, 2, 16, 40}));
    }
    FormatArrays tables;
    tables.kv_len = parts_of(random, random.between(1, groups * longest), groups, longest, split);
    batch.formats = {tables};
    p.limits = limits_of(p, batch, 0);
    const TestPlan plan(p, choice, batch, KvRange{});
    ASSERT_TRUE(plan.guard_intact()) << "seed " << seed;
    if (plan.capacity().max_slots > 0) {
      fullest = max_(fullest, static_cast<double>(plan.num_slots()) / plan.capacity().max_slots);
    }
  }
  EXPECT_EQ(fullest, 1.0);  // the bound is no larger than it must be
}

TEST(Capacity, ABatchOverTheLimitsIsABugAndWritesNothingOutside) {
  Problem p = decode_problem(4);
  TestBatch batch = paged_batch(p, {{1, 100}, {1, 100}, {1, 100}, {1, 100}, {1, 100}});
  EXPECT_THROW(TestPlan(p, kChoice, batch, KvRange{}), InternalError);
}

}  // namespace
}  // namespace fovea::test
