// After prepare() and new_plan() nothing allocates: every malloc of the process is counted over 1,000 steps of changing lengths.
#include <gtest/gtest.h>

#include <vector>

#include "bench/allocation_count.h"
#include "tests/conformance/paged_batch.h"
#include "tests/conformance/targets.h"

namespace fovea::check {
namespace {

class Allocation : public testing::TestWithParam<Target> {};

TEST_P(Allocation, NoneAfterPrepare) {
  if (!bench::AllocationCount::sees_malloc()) {
    GTEST_SKIP() << "sanitizers have an allocator of their own";
  }
  PagedBatch paged(8, 2, 64, 1024, 128, "causal+sink");
  const Engine engine(GetParam().options);
  const Attention attention =
      engine.prepare(paged.spec(), {.max_requests = 32, .max_query_tokens = 128, .max_kv_tokens_per_request = 4096});
  Plan plan = attention.new_plan();
  const Value sink = paged.sink_value();
  std::int64_t first_with_any = -1;
  const bench::AllocationCount allocations;
  for (int step = 0; step < 1000; ++step) {
    paged.clear();
    const int num_requests = paged.random().between(1, 12);
    for (int r = 0; r < num_requests; ++r) {
      paged.add(paged.random().percent(10) ? paged.random().below(9) : 1, paged.random().percent(5) ? 2000 : paged.random().below(100));
    }
    RunArgs args = paged.args();
    args.params = {&sink, 1};
    attention.plan(plan, paged.batch());
    attention.run(plan, args);
    if (first_with_any < 0 && allocations.count() != 0) {
      first_with_any = step;
    }
  }
  EXPECT_EQ(allocations.count(), 0) << "first in step " << first_with_any;
}

/// The counter counts: a test that can't fail says nothing.
TEST(AllocationCounter, Counts) {
  if (!bench::AllocationCount::sees_malloc()) {
    GTEST_SKIP();
  }
  const bench::AllocationCount allocations;
  std::vector<int>* leaked_to_the_optimiser = new std::vector<int>(100);
  EXPECT_GE(allocations.count(), 2);
  delete leaked_to_the_optimiser;
}

INSTANTIATE_TEST_SUITE_P(All, Allocation, testing::ValuesIn(cpu_targets()), name_of_target);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Allocation);

}  // namespace
}  // namespace fovea::check
