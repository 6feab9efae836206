// Plans of small workloads as text, reviewed as diffs. FOVEA_UPDATE_GOLDEN=1 rewrites tests/golden/plans/.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "src/schedule/test_plan.h"

namespace fovea::test {
namespace {

constexpr KvRange kCausal{.right = 0, .exact = 1};

/// 2 kv heads of 4 query heads; pages of 16; 8 workers; decode in ranges of 16 rows, the rest in a list of 64.
struct Workload {
  Problem problem;
  Choice choice;

  Workload() {
    problem.group_size = 4;
    problem.spec.num_kv_heads = 2;
    problem.spec.num_qo_heads = 8;
    problem.spec.head_dim_qk = problem.spec.head_dim_vo = 128;
    problem.limits = {.max_requests = 8,
                      .max_query_tokens = 128,
                      .max_query_tokens_per_request = 128,
                      .max_kv_tokens_per_request = 16384,
                      .max_kv_tokens = 65536,
                      .max_row_groups = 16};
    choice = {.kernel = "test",
              .configs = {{.tile_q = 16, .tile_kv = 64, .form = PlanForm::ranges}, {.tile_q = 64, .tile_kv = 64, .form = PlanForm::list}},
              .num_workers = 8};
  }
};

void expect_golden(const std::string& name, const Workload& workload, const TestBatch& batch, KvRange range) {
  const TestPlan plan(workload.problem, workload.choice, batch, range);
  ASSERT_EQ(broken_promise(workload.problem, plan), "");
  const std::string actual = plan.view().to_string();
  const std::string path = fmt::format("{}/tests/golden/plans/{}.txt", FOVEA_SOURCE_DIR, name);
  if (std::getenv("FOVEA_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << actual;
    return;
  }
  std::ifstream file(path);
  std::stringstream expected;
  expected << file.rdbuf();
  EXPECT_EQ(expected.str(), actual) << path << " (FOVEA_UPDATE_GOLDEN=1 rewrites it)";
}

TEST(PlanGolden, Decode) {
  const Workload w;
  expect_golden("decode", w, paged_batch(w.problem, {{1, 1024}, {1, 1000}, {1, 960}, {1, 1}}), kCausal);
}

TEST(PlanGolden, SkewedDecode) {
  const Workload w;
  expect_golden("skewed_decode", w, paged_batch(w.problem, {{1, 300}, {1, 8000}, {0, 5000}, {1, 0}, {1, 64}}), kCausal);
}

TEST(PlanGolden, SkewedDecodeInASmallWorkspace) {
  Workload w;
  w.problem.options.max_workspace_bytes = 4 * 64 * 129 * 4;  // four slots: two cuts
  expect_golden("skewed_decode_small_workspace", w, paged_batch(w.problem, {{1, 300}, {1, 8000}, {0, 5000}, {1, 0}, {1, 64}}), kCausal);
}

TEST(PlanGolden, ChunkedPrefillAndDecode) {
  const Workload w;
  expect_golden("chunked_prefill_and_decode", w, paged_batch(w.problem, {{1, 700}, {40, 2040}, {1, 64}, {3, 128}}), kCausal);
}

TEST(PlanGolden, SharedPrefix) {
  Workload w;
  w.problem.spec.formats = {KvFormat::paged(16), KvFormat::paged(16)};
  // Requests 0 to 2 share 512 tokens; request 3 shares nothing. Suffixes of 100, 200, 16 and 600 tokens.
  TestBatch batch;
  batch.qo_indptr = {0, 1, 2, 4, 5};
  batch.formats = {{.page_indptr = {0, 32}, .row_indptr = {0, 4}}, {.page_indptr = {0, 7, 20, 21, 59}, .kv_len = {100, 200, 16, 600}}};
  expect_golden("shared_prefix", w, batch, kCausal);
}

TEST(PlanGolden, WindowWithSinkTokens) {
  const Workload w;
  expect_golden("window_with_sink_tokens", w, paged_batch(w.problem, {{1, 3000}, {32, 2000}, {1, 90}}),
                KvRange{.left = 500, .right = 0, .num_sink = 4, .exact = 1});
}

TEST(PlanGolden, FixedSplit) {
  Workload w;
  w.problem.options = {.policy = Policy::fixed_split, .fixed_split = 512};
  w.choice.configs[0].form = PlanForm::list;
  expect_golden("fixed_split", w, paged_batch(w.problem, {{1, 1100}, {5, 513}, {1, 512}, {40, 1200}}), kCausal);
}

TEST(PlanGolden, BlockSparse) {
  Workload w;
  w.problem.spec.formats = {KvFormat::block_sparse(8, 32)};
  TestBatch batch;
  batch.qo_indptr = {0, 20, 30};
  batch.kv_len = {4096, 4096};
  batch.formats = {{.page_indptr = {0, 12, 24, 24, 30}}};  // blocks of 8 rows; the third spans both requests and has no columns
  expect_golden("block_sparse", w, batch, kCausal);
}

}  // namespace
}  // namespace fovea::test
