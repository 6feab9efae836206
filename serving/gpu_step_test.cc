// What a replay launches on GPUs compiles without spills; where there is a GPU it makes the host's values and digests, bit for bit.
#include "serving/gpu_step.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "backends/cuda/compiler.h"
#include "fovea/device_buffer.h"
#include "fovea/error.h"
#include "serving/digest.h"
#include "serving/replay.h"
#include "serving/trace_fixture.h"
#include "src/jit/compile_log.h"

namespace fovea::serving {
namespace {

class GpuStepKernels : public testing::TestWithParam<const char*> {};

TEST_P(GpuStepKernels, CompileWithoutSpills) {
  const cuda::Compiler compiler(GetParam(), 0);
  const std::string_view folders[] = {"fovea/", "portable/", "backends/cuda/probe/", "backends/cuda/device/"};
  const cuda::CompileRequest request{
      .label = "replay",
      .program = {
          .source_name = "source.cu", .source = gpu_step_source(), .headers = {}, .embedded = jit::embedded_sources_under(folders)}};
  try {
    const std::vector<jit::Artefact> cubins = compiler.compile({&request, 1}, "replay");
    const jit::CompileReport report = jit::read_compile_log(cubins[0].log);
    EXPECT_EQ(report.spilled_bytes, 0) << cubins[0].log;
    EXPECT_TRUE(report.warnings.empty()) << cubins[0].log;
  } catch (const Unsupported& error) {
    GTEST_SKIP() << error.what();
  }
}
INSTANTIATE_TEST_SUITE_P(Architectures, GpuStepKernels, testing::Values("sm_80", "sm_90a"));

TEST(GpuStep, MakesTheHostsValuesAndDigests) {
  std::unique_ptr<Engine> engine;
  try {
    engine = std::make_unique<Engine>(EngineOptions{.backend = "cuda"});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  constexpr std::uint64_t kKey = 77;
  for (const std::int32_t heads : {1, 8, 32}) {
    for (const std::int32_t dim : {4, 64, 100, 128, 256}) {
      std::vector<std::uint64_t> hashes(301);
      for (std::size_t i = 0; i < hashes.size(); ++i) {
        hashes[i] = mix(i + 5);
      }
      const auto row = static_cast<std::size_t>(heads) * static_cast<std::size_t>(dim);
      const Values values(3, Tensor::k, 2);
      std::vector<std::uint16_t> expected(hashes.size() * row), actual(expected.size());
      std::uint64_t digest = 0;
      for (std::size_t token = 0; token < hashes.size(); ++token) {
        const std::span<std::uint16_t> its_row = std::span(expected).subspan(token * row, row);
        for (std::int32_t head = 0; head < heads; ++head) {
          values.fill(hashes[token], head, its_row.subspan(static_cast<std::size_t>(head * dim), static_cast<std::size_t>(dim)));
        }
        digest += row_digest(std::as_bytes(its_row), mix(kKey, token));
      }
      const DeviceBuffer memory(*engine, 2 * expected.size());
      const std::unique_ptr<GpuStep> gpu = GpuStep::make(*engine, static_cast<std::int64_t>(hashes.size()), 1);
      memory.fill(0xff);
      gpu->set_tokens(hashes);
      gpu->make(values, heads, dim, memory.data());
      gpu->add_digest(memory.data(), static_cast<std::int64_t>(2 * row), kKey);
      gpu->copy_to_host(actual.data(), memory.data(), static_cast<std::int64_t>(memory.bytes()));
      gpu->synchronise();
      EXPECT_EQ(actual, expected) << heads << " heads of " << dim;
      EXPECT_EQ(gpu->digest(), digest) << heads << " heads of " << dim;
    }
  }
}

/// With plans of the host or of the device, call by call or as one graph that the first step captured: the same bits of the same steps.
TEST(ReplayOnAGpu, GraphsAndPlansOfTheDeviceChangeNoBit) {
  try {
    const Engine engine({.backend = "cuda"});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  const Trace trace = random_trace(2, 40);
  std::vector<std::uint64_t> digests;
  for (const char* model : {"tiny", "gemma-3-12b/tp8"}) {  // one mask group; two, with windows
    digests.clear();
    for (const bool graphs : {false, true}) {
      for (const bool device_plan : {false, true}) {
        Replay replay(trace, {.model = find_model(model),
                              .engine = {.backend = "cuda"},
                              .seed = 3,
                              .shrink = 16,
                              .check_steps = 5,
                              .graphs = graphs,
                              .device_plan = device_plan,
                              .scheduling = {.token_budget = 96,
                                             .max_requests = 12,
                                             .page_size = 16,
                                             .num_pages = 40,  // too few: requests are preempted
                                             .cost = {.step_ns = 200'000'000}}});
        while (replay.step()) {
        }
        const ReplayResult result = replay.result();
        EXPECT_GT(result.totals.preemptions, 0);
        EXPECT_EQ(result.mismatched_steps, 0) << result.first_mismatch;
        EXPECT_EQ(result.compiles_after_prepare, 0);
        for (const StepRecord& step : result.steps) {
          EXPECT_GT(step.host_us, 0);
          EXPECT_GT(step.gpu_us, 0);
          EXPECT_EQ(step.graph_us > 0, graphs);
          EXPECT_EQ(step.plan_us > 0, !graphs || !device_plan);
        }
        digests.push_back(result.output_digest);
      }
    }
    EXPECT_EQ(digests, std::vector<std::uint64_t>(4, digests[0])) << model;
  }
}

}  // namespace
}  // namespace fovea::serving
