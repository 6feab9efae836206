// The planner kernel's program, run by loops: bit for bit the host planner's plan, over random batches of all formats, masks and policies.
#include "portable/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "src/schedule/planner.h"
#include "src/schedule/planner_fixture.h"
#include "src/schedule/random_problem.h"
#include "src/schedule/serial_block.h"

namespace fovea::test {
namespace {

struct DevicePlanned : PlannedMemory {
  using PlannedMemory::PlannedMemory;
  PlanStatus status;
};

constexpr std::ptrdiff_t kBehind = 1024;  // bytes behind shared memory that nobody writes

/// As a launch would: every block by itself, last block first.
void plan_by_program(const Problem& problem, const Choice& choice, const BatchView& batch, std::span<const KvRange> ranges,
                     std::uint64_t seed, const std::int32_t* num_requests, DevicePlanned& out) {
  PlannerParams params = planner_params(problem, choice, out.capacity, batch, out.arrays);
  for (std::size_t m = 0; m < ranges.size(); ++m) {
    add_mask(params, out.capacity, out.arrays, static_cast<std::int32_t>(m), ranges[m]);
  }
  params.num_requests = num_requests;
  params.simple &= static_cast<std::int32_t>(seed / 2 % 2);  // both ways
  params.status = &out.status;
  // None, just enough for plan_simple<true> and a little more, enough for all.
  const std::int64_t shared_left = seed % 3 == 0 ? 0 : seed % 3 == 1 ? params.groups_bytes + 16 * (seed / 12 % 60) : 100000;
  const std::int64_t bytes = planner_scratch_bytes(out.capacity);
  std::vector<std::uint8_t> scratch(static_cast<std::size_t>(bytes) + 16), shared(static_cast<std::size_t>(shared_left) + kBehind);
  const auto behind = shared.end() - kBehind;
  const std::int32_t num_blocks = params.num_masks + static_cast<std::int32_t>(1 + seed % 3);
  for (std::int32_t index = num_blocks; index-- > 0;) {
    std::memset(scratch.data(), 0x5c, scratch.size());
    SerialBlock block(seed);
    PlannerState state;
    reset_state(block, state);
    std::fill(behind, shared.end(), std::uint8_t{0x3a});
    const PlannerScratch from{reinterpret_cast<char*>(shared.data()), static_cast<std::int32_t>(shared_left),
                              reinterpret_cast<char*>(scratch.data()) + (16 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 16) % 16};
    if (!params.simple) {
      plan_general(block, params, state, from, index, num_blocks);
    } else if (params.small && params.groups_bytes <= from.shared_left) {
      plan_simple<true>(block, params, state, from, index, num_blocks);
    } else {
      plan_simple<false>(block, params, state, from, index, num_blocks);
    }
    ASSERT_EQ(std::count(behind, shared.end(), 0x3a), kBehind) << "seed " << seed << ": writes behind its shared memory";
  }
}

TEST(Planner, DivisorsDivide) {
  Random random(1);
  for (std::int32_t i = 0; i < 20000; ++i) {
    const std::int32_t by = i < 300 ? i + 1 : static_cast<std::int32_t>(random.next() >> random.between(34, 63)) + 1;
    const Divisor fast = divisor(by);
    const std::int32_t many = 0x7fffffff / by * by;  // the largest multiple
    for (const std::int32_t a : {0, 1, by - 1, by, many - 1, many, 0x7fffffff, static_cast<std::int32_t>(random.next() >> 33)}) {
      ASSERT_EQ(a / fast, a / by) << a << " / " << by;
    }
  }
}

TEST(Planner, SameBytesAsTheHostPlanner) {
  std::int32_t merges = 0, lists = 0;
  for (std::uint64_t seed = 0; seed < 12000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    DevicePlanned host(c.problem, c.choice), device(c.problem, c.choice);
    BatchView batch = c.batch.view(c.problem);
    make_groups(c.problem, batch, host.arrays);
    schedule(c.problem, c.choice, host.capacity, batch, c.range, 0, host.arrays);
    defer_checks(c.problem, batch);
    plan_by_program(c.problem, c.choice, batch, {&c.range, 1}, seed, nullptr, device);
    ASSERT_EQ(difference(host, device), "") << "seed " << seed;
    ASSERT_EQ(device.status.error, 0) << "seed " << seed << " index " << device.status.index << " value " << device.status.value;
    for (std::int32_t i = 0; i < host.capacity.num_configs; ++i) {
      merges += *host.arrays.mask_groups[0].schedules[i].num_merges > 0;
      lists += *host.arrays.mask_groups[0].schedules[i].num_items > 0;
    }
  }
  EXPECT_GT(merges, 1000);
  EXPECT_GT(lists, 4000);
}

/// Plans `expected` on the host and `given` by the program; says where they differ.
std::string compare(const RandomCase& c, const TestBatch& expected, const TestBatch& given, std::span<const KvRange> ranges,
                    std::uint64_t seed, const std::int32_t* num_requests, PlanStatus& status) {
  DevicePlanned host(c.problem, c.choice), device(c.problem, c.choice);
  const BatchView view = expected.view(c.problem);
  make_groups(c.problem, view, host.arrays);
  for (std::size_t m = 0; m < ranges.size(); ++m) {
    schedule(c.problem, c.choice, host.capacity, view, ranges[m], static_cast<std::int32_t>(m), host.arrays);
  }
  BatchView batch = given.view(c.problem);
  defer_checks(c.problem, batch);
  plan_by_program(c.problem, c.choice, batch, ranges, seed, num_requests, device);
  status = device.status;
  return difference(host, device);
}

/// Are all groups requests?
bool requests_alone(const RandomCase& c) {
  bool alone = true;
  for (std::size_t i = 0; i < c.batch.formats.size(); ++i) {
    alone &= c.batch.formats[i].row_indptr.empty() && c.problem.spec.formats[i].block_rows == 0;
  }
  return alone;
}

/// Row tiles of lists take shared memory while there is some; what ranges need of it, they leave, however little there is.
TEST(Planner, ListsLeaveRangesTheirSharedMemory) {
  std::int32_t with_ranges = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    if (!is_simple(c.batch.view(c.problem)) || c.choice.configs[0].form != PlanForm::ranges) {
      continue;
    }
    for (std::uint64_t more = 0; more < 60; more += 3) {
      PlanStatus status;
      const std::uint64_t tight = 12 * more + 10;  // plan_simple<true>, with room for its arrays and 16 * more bytes
      ASSERT_EQ(compare(c, c.batch, c.batch, {&c.range, 1}, tight, nullptr, status), "") << "seed " << seed << ", more " << more;
      ASSERT_FALSE(HasFatalFailure()) << "seed " << seed << ", more " << more;
    }
    ++with_ranges;
  }
  EXPECT_GT(with_ranges, 30);
}

TEST(Planner, SeveralMasksInOneLaunch) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    Random random(seed);
    RandomCase c = random_case(random);
    c.problem.limits.max_mask_groups = 3;
    const KvRange masks[] = {c.range, KvRange{}, KvRange{.left = 30, .right = 0, .num_sink = 4, .exact = 1}};
    PlanStatus status;
    ASSERT_EQ(compare(c, c.batch, c.batch, masks, seed, nullptr, status), "") << "seed " << seed;
  }
}

TEST(Planner, HowManyRequestsThereAreMayBeOnTheDevice) {
  std::int32_t fewer = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    if (!requests_alone(c)) {
      continue;
    }
    const std::int32_t all = static_cast<std::int32_t>(c.batch.qo_indptr.size()) - 1, n = random.between(0, all);
    TestBatch first = c.batch;
    first.qo_indptr.resize(static_cast<std::size_t>(n) + 1);
    PlanStatus status;
    ASSERT_EQ(compare(c, first, c.batch, {&c.range, 1}, seed, &n, status), "") << "seed " << seed << ", " << n << " of " << all;
    ASSERT_EQ(status.error, 0) << "seed " << seed;
    fewer += n < all;
  }
  EXPECT_GT(fewer, 500);
}

TEST(Planner, BadGroupsHaveNoColumnsAndAreReported) {
  std::int32_t bad_groups = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    const std::size_t f = static_cast<std::size_t>(random.between(0, static_cast<std::int32_t>(c.batch.formats.size()) - 1));
    const std::int32_t groups = c.batch.view(c.problem).formats[f].num_groups();
    if (groups == 0 || c.batch.formats[f].kv_len.empty()) {
      continue;
    }
    const std::size_t g = static_cast<std::size_t>(random.between(0, groups - 1));
    TestBatch bad = c.batch, none = c.batch;
    bad.formats[f].kv_len[g] = random.pick({-1, -(1 << 30), 1 << 30, 0x7fffffff, 1 << 29});
    none.formats[f].kv_len[g] = 0;
    PlanStatus status;
    ASSERT_EQ(compare(c, none, bad, {&c.range, 1}, seed, nullptr, status), "") << "seed " << seed;
    ASSERT_EQ(static_cast<BatchError>(status.error), BatchError::kv_len) << "seed " << seed;
    ASSERT_EQ(status.format, static_cast<std::int32_t>(f));
    ASSERT_EQ(status.index, static_cast<std::int32_t>(g));
    ASSERT_EQ(status.value, bad.formats[f].kv_len[g]);
    ++bad_groups;
  }
  EXPECT_GT(bad_groups, 1000);
}

TEST(Planner, BadRequestsHaveNoColumnsAndAreReported) {
  std::int32_t bad_requests = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    const std::int32_t n = static_cast<std::int32_t>(c.batch.qo_indptr.size()) - 1;
    if (!requests_alone(c) || c.problem.composed() || n == 0 || c.batch.formats[0].kv_len.empty()) {
      continue;
    }
    const std::size_t r = static_cast<std::size_t>(random.between(0, n - 1));
    const std::size_t heads = c.problem.spec.formats[0].per_kv_head ? static_cast<std::size_t>(c.problem.spec.num_kv_heads) : 1;
    TestBatch bad = c.batch, none = c.batch;
    none.q_pos.resize(static_cast<std::size_t>(n) + 1);
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      const std::int32_t qo_len = c.batch.qo_indptr[i + 1] - c.batch.qo_indptr[i];
      none.q_pos[i] = i == r ? -qo_len : c.batch.q_pos.empty() ? c.batch.kv_len[i] - qo_len : c.batch.q_pos[i];
    }
    none.kv_len[r] = 0;
    bad.kv_len[r] = random.pick({-1, -(1 << 30), 0x7fffffff});
    for (std::size_t h = 0; h < heads; ++h) {
      none.formats[0].kv_len[r * heads + h] = 0;
    }
    PlanStatus status;
    ASSERT_EQ(compare(c, none, bad, {&c.range, 1}, seed, nullptr, status), "") << "seed " << seed << " request " << r;
    ASSERT_EQ(static_cast<BatchError>(status.error), BatchError::request_kv_len) << "seed " << seed;
    ASSERT_EQ(status.index, static_cast<std::int32_t>(r));
    ASSERT_EQ(status.value, bad.kv_len[r]);
    ++bad_requests;
  }
  EXPECT_GT(bad_requests, 200);
}

TEST(Planner, ABatchWhoseRowsMakeNoSenseIsEmpty) {
  std::int32_t bad_batches = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Random random(seed);
    const RandomCase c = random_case(random);
    const std::int32_t n = static_cast<std::int32_t>(c.batch.qo_indptr.size()) - 1;
    if (!requests_alone(c) || n == 0) {
      continue;
    }
    TestBatch bad = c.batch, none = c.batch;
    none.qo_indptr = {0};
    const std::size_t i = static_cast<std::size_t>(random.between(0, n));
    bad.qo_indptr[i] = random.pick({-1, -(1 << 30), 0x7fffffff, c.problem.limits.max_query_tokens + 1});
    PlanStatus status;
    ASSERT_EQ(compare(c, none, bad, {&c.range, 1}, seed, nullptr, status), "") << "seed " << seed;
    ASSERT_EQ(static_cast<BatchError>(status.error), BatchError::qo_indptr) << "seed " << seed;
    const std::int32_t counts[] = {-1, n + 1, 1 << 30};
    const std::int32_t count = counts[seed % 3];
    ASSERT_EQ(compare(c, none, c.batch, {&c.range, 1}, seed, &count, status), "") << "seed " << seed;
    ASSERT_EQ(static_cast<BatchError>(status.error), BatchError::num_requests) << "seed " << seed;
    ASSERT_EQ(status.value, count);
    ++bad_batches;
  }
  EXPECT_GT(bad_batches, 500);
}

}  // namespace
}  // namespace fovea::test
