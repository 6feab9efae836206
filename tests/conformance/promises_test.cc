// What holds beside right numbers: same bits for any number of threads, requests that don't see each other, rows finalised once, calls that
// survive a refused one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "check/check.h"
#include "check/compare.h"
#include "check/on_device.h"
#include "tests/conformance/on_engine.h"
#include "tests/conformance/paged_batch.h"
#include "tests/conformance/targets.h"

namespace fovea::check {
namespace {

class Promises : public testing::TestWithParam<Target> {};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void run(const Engine& engine, const Attention& attention, Plan& plan, PagedBatch& paged, Output output = Output::finalised) {
  const Value sink = paged.sink_value();
  RunArgs args = paged.args();
  args.output = output;
  if (attention.spec().variant.name.find("sink") != std::string::npos) {
    args.params = {&sink, 1};
  }
  OnEngine on(engine);
  Batch batch = paged.batch();
  const KvTables tables = on.page_ids(batch.kv[0]);
  batch.kv = {&tables, 1};
  attention.plan(plan, batch);
  attention.run(plan, on(args));
  on.fetch();
}

/// One long request among short ones, and a prefill: all plan forms, with splits.
void add_requests(PagedBatch& paged) {
  paged.clear();
  paged.add(1, 3000);
  paged.add(1, 17);
  paged.add(0, 40);
  paged.add(37, 900);
  paged.add(3, 0);
  paged.add(1, 1);
  paged.add(2, 640);
}

/// Nor does the run: a GPU's items are computed in an order of their own each time.
TEST_P(Promises, ThreadsChangeNoBit) {
  std::vector<std::byte> expected_o, expected_lse;
  const std::int64_t num_cases = GetParam().options.backend == "cuda" ? 8 : 40;  // each compiles kernels of its own there
  for (std::int64_t index = 0; index < num_cases; ++index) {
    const Case c = make_case(11, index);
    for (const int threads : {1, 2, 5}) {
      EngineOptions options = GetParam().options;
      options.num_threads = threads;
      const Engine engine(options);
      const Attention attention = engine.prepare(c.spec, c.limits, c.options);
      Plan plan = attention.new_plan();
      const CaseOnDevice there(engine, c);
      Outputs out = make_outputs(c, c.spec.o_dtype);
      OutputsOnDevice out_there(engine, out);
      RunArgs args = there.run();
      args.o = out_there.o();
      args.lse = out_there.lse();
      attention.plan(plan, there.batch(), {.masks = there.masks()});
      attention.run(plan, args);
      out_there.fetch();
      if (threads == 1) {
        expected_o = out.o_memory;
        expected_lse = out.lse_memory;
      }
      EXPECT_TRUE(expected_o == out.o_memory && expected_lse == out.lse_memory) << threads << " threads: " << c.text();
    }
  }
}

TEST_P(Promises, BatchInvariantRequestsDontSeeEachOther) {
  PagedBatch paged(8, 2, 64, 512, 64);
  const Engine engine(GetParam().options);
  const Limits limits{.max_requests = 16, .max_query_tokens = 64, .max_kv_tokens_per_request = 4096};
  const Attention attention = engine.prepare(paged.spec(), limits, {.policy = Policy::batch_invariant});
  Plan plan = attention.new_plan();
  add_requests(paged);
  paged.forget_outputs();
  run(engine, attention, plan, paged);
  const std::vector<float> together = paged.o();
  const std::vector<float> together_lse = paged.lse();
  paged.forget_outputs();
  for (int r = 0; r < 7; ++r) {
    add_requests(paged);
    paged.keep_only(r);
    run(engine, attention, plan, paged);
  }
  EXPECT_TRUE(same_bits(together, paged.o()));
  EXPECT_TRUE(same_bits(together_lse, paged.lse()));
}

/// A long prefix by row_indptr, then tokens of each request's own: request 0 with and without another that shares its prefix.
TEST_P(Promises, BatchInvariantRequestsDontSeeWhoSharesTheirPrefix) {
  constexpr int kPrefix = 5000, kOwn = 33, kHeads = 2, kDim = 16;
  Random random(8, 0);
  std::vector<float> q(3 * kHeads * kDim), k((kPrefix + 2 * kOwn) * kHeads * kDim), v(k.size());
  for (std::vector<float>* values : {&q, &k, &v}) {
    for (float& value : *values) {
      value = static_cast<float>(random.normal());
    }
  }
  const Engine engine(GetParam().options);
  const AttentionSpec spec{.num_qo_heads = kHeads,
                           .num_kv_heads = kHeads,
                           .head_dim_qk = kDim,
                           .q_dtype = DType::f32,
                           .k_dtype = DType::f32,
                           .v_dtype = DType::f32,
                           .o_dtype = DType::f32,
                           .formats = {KvFormat::ragged(), KvFormat::ragged()}};
  const Attention attention = engine.prepare(spec, {.max_requests = 2, .max_query_tokens = 3, .max_kv_tokens_per_request = 8192},
                                             {.policy = Policy::batch_invariant});
  Plan plan = attention.new_plan();
  const auto view = [](std::vector<float>& values, int first, int count) {
    return TensorView::contiguous(values.data() + first * kHeads * kDim, DType::f32, {count, kHeads, kDim});
  };
  std::vector<float> outputs[2];
  for (const int requests : {1, 2}) {
    const std::vector<std::int32_t> all_own{0, kOwn, 2 * kOwn}, prefix{0, kPrefix};
    const std::span<const std::int32_t> own = std::span(all_own).first(static_cast<std::size_t>(requests) + 1);
    const std::vector<std::int32_t> rows = requests == 1 ? std::vector<std::int32_t>{0, 1} : std::vector<std::int32_t>{0, 1, 3};
    const std::vector<std::int32_t> sharers{0, rows.back()};
    KvTables tables[] = {KvTables::ragged(TensorView::of(prefix)), KvTables::ragged(TensorView::of(own))};
    tables[0].row_indptr = TensorView::of(sharers);
    attention.plan(plan, {.qo_indptr = TensorView::of(rows), .kv = tables});
    KvCache caches[2];
    caches[0].k = view(k, 0, kPrefix), caches[0].v = view(v, 0, kPrefix);
    caches[1].k = view(k, kPrefix, 2 * kOwn), caches[1].v = view(v, kPrefix, 2 * kOwn);
    std::vector<float>& o = outputs[requests - 1];
    o.assign(q.size(), NAN);
    OnEngine on(engine);
    attention.run(plan, on(RunArgs{.q = view(q, 0, 3), .kv = caches, .o = view(o, 0, 3)}));
    on.fetch();
    o.resize(kHeads * kDim);
  }
  EXPECT_TRUE(same_bits(outputs[0], outputs[1]));
}

/// A sink enters once, at finalisation, however often a row was cut: finalised = states * 1 / (1 + e^(sink - lse)).
TEST_P(Promises, RowsAreFinalisedOnce) {
  for (const int workers : {1, 2, 7, 64}) {
    PagedBatch paged(6, 2, 40, 512, 64, "causal+sink");
    const Engine engine(GetParam().options);
    const Attention attention = engine.prepare(
        paged.spec(), {.max_requests = 16, .max_query_tokens = 64, .max_kv_tokens_per_request = 4096}, {.num_workers = workers});
    Plan plan = attention.new_plan();
    add_requests(paged);
    run(engine, attention, plan, paged, Output::states);
    if (GetParam().options.backend == "cpu" && workers > 1) {
      EXPECT_GT(plan.view().num_merges, 0) << "nothing was cut with " << workers << " workers";
    }
    const std::vector<float> states = paged.o();
    const std::vector<float> lse = paged.lse();
    run(engine, attention, plan, paged);
    for (int row = 0; row < paged.num_rows(); ++row) {
      for (int head = 0; head < 6; ++head) {
        const std::size_t at = static_cast<std::size_t>(row * 6 + head);
        const double factor = 1 / (1 + std::exp(double{paged.sinks()[static_cast<std::size_t>(head)]} - lse[at]));
        for (std::size_t i = at * 40; i < (at + 1) * 40; ++i) {
          ASSERT_NEAR(paged.o()[i], states[i] * factor, 4e-7 * (1 + std::fabs(states[i])))
              << workers << " workers, row " << row << ", head " << head;
        }
      }
    }
  }
}

/// A fixed split of 1, 2 and 7 pieces is that many pieces, and changes results by rounding alone.
TEST_P(Promises, FixedSplitsAreExact) {
  if (GetParam().options.backend == "reference") {
    GTEST_SKIP() << "the reference has no splits";
  }
  constexpr int kSplit = 256;
  for (const int pieces : {1, 2, 7}) {
    PagedBatch paged(4, 2, 64, 512, 8);
    const Limits limits{.max_requests = 4, .max_query_tokens = 8, .max_kv_tokens_per_request = 4096};
    const Engine engine(GetParam().options);
    const Attention attention = engine.prepare(paged.spec(), limits, {.policy = Policy::fixed_split, .fixed_split = kSplit});
    Plan plan = attention.new_plan();
    paged.clear();
    paged.add(1, pieces * kSplit);
    run(engine, attention, plan, paged);
    EXPECT_EQ(plan.view().num_partial_slots, pieces == 1 ? 0 : 2 * pieces) << "two kv heads";
    const std::vector<float> split = paged.o();
    const Engine reference({.backend = "reference"});
    const Attention whole = reference.prepare(paged.spec(), limits);
    Plan whole_plan = whole.new_plan();
    run(reference, whole, whole_plan, paged);
    for (std::size_t i = 0; i < 4 * 64; ++i) {
      EXPECT_NEAR(split[i], paged.o()[i], 1e-6);
    }
  }
}

TEST_P(Promises, ARefusedCallHarmsNothing) {
  PagedBatch paged(4, 2, 64, 512, 64);
  const Engine engine(GetParam().options);
  const Attention attention = engine.prepare(paged.spec(), {.max_requests = 8, .max_query_tokens = 64, .max_kv_tokens_per_request = 4096});
  Plan plan = attention.new_plan();
  add_requests(paged);
  OnEngine pages(engine);  // as long as the plan
  Batch batch = paged.batch();
  const KvTables tables = pages.page_ids(batch.kv[0]);
  batch.kv = {&tables, 1};
  attention.plan(plan, batch);
  const auto outputs_of_a_run = [&] {
    paged.forget_outputs();
    OnEngine on(engine);
    attention.run(plan, on(paged.args()));
    on.fetch();
    return paged.o();
  };
  const std::vector<float> expected = outputs_of_a_run();

  PagedBatch too_many(4, 2, 64, 512, 64);
  too_many.clear();
  for (int r = 0; r < 9; ++r) {
    too_many.add(1, 5);
  }
  EXPECT_THROW(attention.plan(plan, too_many.batch()), InvalidArgument);
  paged.forget_outputs();
  RunArgs wrong = paged.args();
  wrong.o.dtype = DType::f16;
  OnEngine on(engine);
  EXPECT_THROW(attention.run(plan, on(wrong)), InvalidArgument);
  on.fetch();
  EXPECT_TRUE(std::isnan(paged.o()[0])) << "a refused run wrote";
  EXPECT_TRUE(same_bits(expected, outputs_of_a_run())) << "not the plan of before the refused ones";
}

INSTANTIATE_TEST_SUITE_P(All, Promises, testing::ValuesIn(device_targets()), name_of_target);

}  // namespace
}  // namespace fovea::check
