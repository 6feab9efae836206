// The whole of a replay on small traces: outputs are right, the same on every run, and everything that goes wrong is seen.
#include "serving/replay.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>
#include <tuple>

#include "fovea/error.h"
#include "serving/trace_fixture.h"

namespace fovea::serving {
namespace {

ReplayOptions tiny_options() {
  return {.model = find_model("tiny"),
          .seed = 3,
          .shrink = 16,
          .check_steps = 5,
          .scheduling = {.token_budget = 96,
                         .max_requests = 12,
                         .page_size = 16,
                         .num_pages = 600,
                         .cost = {.step_ns = 200'000'000}}};  // slow: requests pile up
}

ReplayResult replay_all(const Trace& trace, const ReplayOptions& options, const OnOutputs& on_outputs = {}) {
  Replay replay(trace, options);
  while (replay.step(on_outputs)) {
  }
  return replay.result();
}

TEST(Replay, IsRightAndCountsEverything) {
  const Trace trace = random_trace(1, 40);
  Replay replay(trace, tiny_options());
  while (replay.step()) {
  }
  const ReplayResult result = replay.result();
  EXPECT_EQ(result.totals.finished, 40);
  EXPECT_EQ(result.totals.steps, replay.rehearsed().steps);
  EXPECT_EQ(result.totals.computed_tokens, replay.rehearsed().computed_tokens);
  EXPECT_EQ(result.steps.size(), static_cast<std::size_t>(result.totals.steps));
  EXPECT_EQ(result.checked_steps, 5);
  EXPECT_GE(result.checked_pairs, 3 * ReferenceCheck::kMinPairs) << "steps of a few decoding requests alone have fewer pairs";
  EXPECT_EQ(result.mismatched_steps, 0) << result.first_mismatch;
  EXPECT_GT(result.worst_error, 0);
  EXPECT_EQ(result.first_token_samples.size(), 40u);
  EXPECT_EQ(static_cast<std::int64_t>(result.first_token_samples.size() + result.inter_token_samples.size()), result.totals.output_tokens);
  EXPECT_EQ(result.compiles_after_prepare, 0);
  for (const StepRecord& step : result.steps) {
    EXPECT_GT(step.run_us, 0);
    EXPECT_GT(step.flops, 0);
  }
}

TEST(Replay, GraphsAndPlansOfADeviceNeedOne) {
  const auto error_of = [](ReplayOptions options) {
    try {
      Replay(random_trace(1, 4), options);
    } catch (const InvalidArgument& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  ReplayOptions options = tiny_options();
  options.device_plan = true;
  EXPECT_EQ(error_of(options), "replay: --plan device needs a GPU, but the engine's device is the cpu; give --device cuda");
  options.graphs = true;
  EXPECT_EQ(error_of(options), "replay: --graphs on needs a GPU, but the engine's device is the cpu; give --device cuda");
}

TEST(Replay, SameDigestWithAnyNumberOfThreadsAndOnEveryRun) {
  const Trace trace = random_trace(2, 40);
  ReplayOptions options = tiny_options();
  options.scheduling.num_pages = 40;  // with preemptions
  std::vector<std::uint64_t> digests;
  for (const std::int32_t threads : {1, 2, 2, 3}) {
    options.engine.num_threads = threads;
    const ReplayResult result = replay_all(trace, options);
    EXPECT_GT(result.totals.preemptions, 0);
    EXPECT_EQ(result.mismatched_steps, 0) << result.first_mismatch;
    digests.push_back(result.output_digest);
  }
  EXPECT_EQ(digests, std::vector<std::uint64_t>(4, digests[0]));
  options.seed = 4;
  EXPECT_NE(replay_all(trace, options).output_digest, digests[0]);
}

TEST(Replay, EveryBitOfEveryLayerCounts) {
  const Trace trace = random_trace(3, 12);
  ReplayOptions options = tiny_options();
  options.check_steps = 0;
  options.num_layers = 2;
  const std::uint64_t digest = replay_all(trace, options).output_digest;
  const std::int64_t last = Replay(trace, options).rehearsed().steps - 1;
  for (const std::int32_t layer : {0, 1}) {
    for (const std::int64_t step_index : {std::int64_t{0}, last / 2, last}) {
      for (const bool at_end : {false, true}) {
        const ReplayResult changed = replay_all(trace, options, [&](const Step& step, std::int32_t l, std::span<std::uint16_t> o) {
          if (step.index == step_index && l == layer) {
            (at_end ? o.back() : o.front()) ^= 1;
          }
        });
        EXPECT_NE(changed.output_digest, digest) << "layer " << layer << ", step " << step_index;
      }
    }
  }
}

TEST(Replay, SwappedRowsChangeTheDigest) {
  const Trace trace = random_trace(3, 12);
  ReplayOptions options = tiny_options();
  options.check_steps = 0;
  const std::uint64_t digest = replay_all(trace, options).output_digest;
  const ReplayResult changed = replay_all(trace, options, [&](const Step& step, std::int32_t, std::span<std::uint16_t> o) {
    const std::size_t row = static_cast<std::size_t>(options.model.num_qo_heads) * static_cast<std::size_t>(options.model.head_dim_vo);
    if (step.index == 0) {
      std::swap_ranges(o.begin(), o.begin() + static_cast<std::ptrdiff_t>(row), o.begin() + static_cast<std::ptrdiff_t>(row));
    }
  });
  EXPECT_NE(changed.output_digest, digest);
}

TEST(Replay, TheCheckSeesWrongOutputs) {
  const Trace trace = random_trace(4, 12);
  ReplayOptions options = tiny_options();
  options.check_steps = 1 << 20;  // all
  const std::size_t row = static_cast<std::size_t>(options.model.num_qo_heads) * static_cast<std::size_t>(options.model.head_dim_vo);
  const auto corrupt = [&](auto change) {
    return replay_all(trace, options, [&](const Step& step, std::int32_t, std::span<std::uint16_t> o) {
      if (step.index == 2) {
        for (std::uint16_t& value : o.first(row)) {  // the first row of the first request: always compared, by one head
          change(value);
        }
      }
    });
  };
  const ReplayResult nan = corrupt([](std::uint16_t& value) { value = 0x7fff; });
  EXPECT_EQ(nan.mismatched_steps, 1);
  EXPECT_EQ(nan.first_mismatch.substr(0, 16), "step 2, layer 0,") << nan.first_mismatch;
  EXPECT_EQ(corrupt([](std::uint16_t& value) { value ^= 0x8000; }).mismatched_steps, 1);
  EXPECT_EQ(corrupt([](std::uint16_t& value) { value = static_cast<std::uint16_t>(value + 3); }).mismatched_steps, 1) << "3 ulps";
  EXPECT_EQ(corrupt([](std::uint16_t&) {}).mismatched_steps, 0);
}

TEST(Replay, StepsWithFewPairsAreCheckedInSeveralLayers) {
  ReplayOptions options = tiny_options();
  options.check_steps = 1 << 20;  // all
  options.num_layers = 5;
  std::int64_t wanted = 0;
  const ReplayResult result = replay_all(random_trace(4, 12), options, [&](const Step& step, std::int32_t layer, std::span<std::uint16_t>) {
    const std::int64_t pairs = std::int64_t{step.prefill_tokens + step.decode_tokens} * options.model.num_qo_heads;
    wanted += layer == 0 ? std::min(5 * pairs, ReferenceCheck::kMinPairs) : 0;
  });
  EXPECT_GE(result.checked_pairs, wanted);
  EXPECT_EQ(result.checked_steps, result.totals.steps);
  EXPECT_EQ(result.mismatched_steps, 0) << result.first_mismatch;
}

TEST(Replay, TheCheckSeesTheFirstAndLastRowOfEveryRequest) {
  const Trace trace = random_trace(4, 12);
  ReplayOptions options = tiny_options();
  const std::size_t row = static_cast<std::size_t>(options.model.num_qo_heads) * static_cast<std::size_t>(options.model.head_dim_vo);
  const std::vector<ServedRequest> requests = serve(trace, options.shrink);
  const ReferenceCheck reference(LayerSpec{.model = options.model, .shrink = options.shrink, .seed = options.seed}, requests,
                                 Replay(trace, options).rehearsed());
  std::int64_t seen = 0;
  replay_all(trace, options, [&](const Step& step, std::int32_t layer, std::span<std::uint16_t> o) {
    if (step.work.size() < 3 || seen > 20) {
      return;
    }
    std::vector<std::uint16_t> changed(o.begin(), o.end());
    const auto expect_seen = [&](std::size_t first, const char* which) {
      for (std::size_t i = 0; i < row; ++i) {  // of all heads: which of them is compared is drawn
        changed[first * row + i] ^= 0x8000;
      }
      EXPECT_GT(reference.check(step, layer, changed).wrong, 0) << "step " << step.index << ", the " << which << " row before " << first;
      std::copy_n(o.begin() + static_cast<std::ptrdiff_t>(first * row), row, changed.begin() + static_cast<std::ptrdiff_t>(first * row));
      ++seen;
    };
    std::size_t at = 0;
    for (const ScheduledWork& work : step.work) {
      expect_seen(at, "first");
      at += static_cast<std::size_t>(work.count);
      expect_seen(at - 1, "last");
    }
    const CheckOutcome outcome = reference.check(step, layer, o);
    EXPECT_EQ(outcome.wrong, 0) << outcome.first;
    EXPECT_GE(outcome.pairs, std::min<std::int64_t>(ReferenceCheck::kMinPairs, static_cast<std::int64_t>(o.size() / row) * 4));
  });
  EXPECT_GT(seen, 6);
}

/// How far two right outputs may be apart: batches differ, so sums are cut in other places. A rounding of the output each, and of the
/// weights where they are rounded to bf16 (2^-9 of values below 2).
float rounding_apart(float value) { return std::fabs(value) * 0x1p-7f + 0x1p-8f; }

float float_of(std::uint16_t bf16) { return std::bit_cast<float>(std::uint32_t{bf16} << 16); }

/// Rows of outputs by (request, token, layer).
using Rows = std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::vector<std::uint16_t>>;

OnOutputs recorder(const Model& model, Rows& rows) {
  return [&](const Step& step, std::int32_t layer, std::span<std::uint16_t> o) {
    const std::size_t row = static_cast<std::size_t>(model.num_qo_heads) * static_cast<std::size_t>(model.head_dim_vo);
    std::size_t at = 0;
    for (const ScheduledWork& work : step.work) {
      for (std::int32_t token = work.first; token < work.first + work.count; ++token, at += row) {
        rows[{work.request, token, layer}].assign(o.begin() + static_cast<std::ptrdiff_t>(at),
                                                  o.begin() + static_cast<std::ptrdiff_t>(at + row));
      }
    }
  };
}

TEST(Replay, PrefixReuseComputesLessAndChangesNothing) {
  const Trace trace = random_trace(5, 40);
  ReplayOptions options = tiny_options();
  Rows with, without;
  const ReplayResult reused = replay_all(trace, options, recorder(options.model, with));
  options.scheduling.prefix_reuse = false;
  const ReplayResult computed = replay_all(trace, options, recorder(options.model, without));
  EXPECT_GT(reused.totals.hit_tokens, 0);
  EXPECT_EQ(computed.totals.hit_tokens, 0);
  EXPECT_LT(reused.totals.computed_tokens, computed.totals.computed_tokens);
  EXPECT_LT(with.size(), without.size());
  double worst = 0;
  for (const auto& [place, row] : with) {
    const auto found = without.find(place);
    ASSERT_NE(found, without.end());
    for (std::size_t i = 0; i < row.size(); ++i) {
      const float a = float_of(row[i]), b = float_of(found->second[i]);
      worst = std::max(worst, static_cast<double>(std::fabs(a - b) / rounding_apart(b)));
    }
  }
  EXPECT_LE(worst, 1.0);
}

TEST(Replay, PreemptionChangesNothing) {
  const Trace trace = random_trace(6, 40);
  ReplayOptions options = tiny_options();
  Rows ample, tight;
  replay_all(trace, options, recorder(options.model, ample));
  options.scheduling.num_pages = 30;
  const ReplayResult result = replay_all(trace, options, recorder(options.model, tight));
  EXPECT_GT(result.totals.preemptions, 0);
  EXPECT_EQ(result.mismatched_steps, 0) << result.first_mismatch;
  std::size_t common = 0;
  for (const auto& [place, row] : tight) {
    const auto found = ample.find(place);
    common += found != ample.end() ? 1 : 0;
    for (std::size_t i = 0; found != ample.end() && i < row.size(); ++i) {
      const float a = float_of(row[i]), b = float_of(found->second[i]);
      ASSERT_LE(std::fabs(a - b), rounding_apart(b));
    }
  }
  EXPECT_GT(common, 100u);
}

class EveryModel : public testing::TestWithParam<std::string> {};

TEST_P(EveryModel, IsRight) {
  ReplayOptions options = tiny_options();
  options.model = find_model(GetParam());
  options.num_layers = 0;  // every window of the model
  options.shrink = 64;
  options.check_steps = 12;  // a layer each, in turn
  const ReplayResult result = replay_all(random_trace(7, 8), options);
  EXPECT_EQ(result.mismatched_steps, 0) << result.first_mismatch;
  EXPECT_EQ(result.checked_steps, std::min<std::int64_t>(12, result.totals.steps));
}

INSTANTIATE_TEST_SUITE_P(Models, EveryModel, testing::ValuesIn(model_names()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
  return name;
});

TEST(Replay, CachesOfEveryType) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32, DType::e4m3, DType::e5m2}) {
    ReplayOptions options = tiny_options();
    options.kv_dtype = dtype;
    const ReplayResult result = replay_all(random_trace(8, 10), options);
    EXPECT_EQ(result.mismatched_steps, 0) << name_of(dtype) << ": " << result.first_mismatch;
  }
}

TEST(Replay, WhatIsNotBuiltInIsCompiledByPrepareAlone) {
  ReplayOptions options = tiny_options();
  options.model.soft_cap = 20;
  options.model.sink = true;
  options.model.windows = {256, 0};
  ASSERT_EQ(options.model.variant(), "sliding_window+soft_cap+sink");
  try {
    const ReplayResult result = replay_all(random_trace(8, 10), options);
    EXPECT_EQ(result.compiled.size(), 1u);
    EXPECT_EQ(result.compiles_after_prepare, 0);
    EXPECT_EQ(result.mismatched_steps, 0) << result.first_mismatch;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::compile_failed) {
      throw;
    }
    GTEST_SKIP() << error.what();  // no compiler on this machine
  }
}

TEST(Replay, RefusesWhatCannotBe) {
  const Trace trace = random_trace(9, 3);
  ReplayOptions options = tiny_options();
  options.scheduling.num_pages = 1;
  options.scheduling.page_size = 1;
  EXPECT_THROW(Replay(trace, options), InvalidArgument);
  options = tiny_options();
  options.engine.backend = "abacus";
  EXPECT_THROW(Replay(trace, options), Error);
}

}  // namespace
}  // namespace fovea::serving
