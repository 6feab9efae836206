// After prepare() and new_plan() nothing allocates: every malloc of the process is counted over 1,000 steps of changing lengths.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "tests/conformance/paged_batch.h"
#include "tests/conformance/targets.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FOVEA_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FOVEA_SANITIZED 1
#endif
#endif

namespace {
std::atomic<std::int64_t> num_allocations{0};
}

#ifndef FOVEA_SANITIZED
// The whole process, operator new and other libraries included, allocates through these.
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? 12 : 0;
}
}
#endif

namespace fovea::check {
namespace {

class Allocation : public testing::TestWithParam<Target> {};

TEST_P(Allocation, NoneAfterPrepare) {
#ifdef FOVEA_SANITIZED
  GTEST_SKIP() << "sanitizers have an allocator of their own";
#endif
  PagedBatch paged(8, 2, 64, 1024, 128, "causal+sink");
  const Engine engine(GetParam().options);
  const Attention attention =
      engine.prepare(paged.spec(), {.max_requests = 32, .max_query_tokens = 128, .max_kv_tokens_per_request = 4096});
  Plan plan = attention.new_plan();
  const Value sink = paged.sink_value();
  std::int64_t first_with_any = -1;
  const std::int64_t before = num_allocations.load();
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
    if (first_with_any < 0 && num_allocations.load() != before) {
      first_with_any = step;
    }
  }
  EXPECT_EQ(num_allocations.load() - before, 0) << "first in step " << first_with_any;
}

/// The counter counts: a test that can't fail says nothing.
TEST(AllocationCounter, Counts) {
#ifdef FOVEA_SANITIZED
  GTEST_SKIP();
#endif
  const std::int64_t before = num_allocations.load();
  std::vector<int>* leaked_to_the_optimiser = new std::vector<int>(100);
  EXPECT_GE(num_allocations.load() - before, 2);
  delete leaked_to_the_optimiser;
}

INSTANTIATE_TEST_SUITE_P(All, Allocation, testing::ValuesIn(cpu_targets()), name_of_target);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Allocation);

}  // namespace
}  // namespace fovea::check
