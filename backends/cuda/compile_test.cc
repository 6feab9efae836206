// What the backend generates, compiled by NVRTC: no GPU or driver is needed. No warnings, and no spilled registers where nothing is
// unusual.
#include <gtest/gtest.h>

#include <cstdlib>

#include "backends/builtin_variants.h"
#include "backends/cuda/compiler.h"
#include "backends/cuda/module.h"
#include "backends/cuda/planner.h"
#include "src/jit/compile_log.h"
#include "src/problem/problem.h"

namespace fovea::cuda {
namespace {

constexpr GpuLimits kH200{.num_multiprocessors = 132, .max_shared_bytes = 232448, .architecture = "sm_90a"};
constexpr GpuLimits kA100{.num_multiprocessors = 108, .max_shared_bytes = 166912};

struct Dims {
  std::int32_t qk, vo;
};

struct More {
  KvQuant quant = KvQuant::none;
  std::int32_t qo_heads = 32;
  std::int32_t drafts = 0;  // query tokens of a request; 0: any number
};

Problem problem_of(const char* variant, DType q, DType kv, Dims dims, const More& more = {}) {
  return check_problem({.num_qo_heads = more.qo_heads,
                        .num_kv_heads = 8,
                        .head_dim_qk = dims.qk,
                        .head_dim_vo = dims.vo,
                        .q_dtype = q,
                        .k_dtype = kv,
                        .v_dtype = kv,
                        .o_dtype = q,
                        .kv_quant = more.quant,
                        .variant = variant},
                       {.max_requests = 8, .max_query_tokens = 64, .max_query_tokens_per_request = more.drafts}, {});
}

/// The choice the backend would make.
Choice choice_for(const Problem& problem, const GpuLimits& gpu) {
  const Candidate* best = nullptr;
  static std::vector<Candidate> candidates;
  candidates.clear();
  for (const AttentionKernel& kernel : attention_kernels()) {
    candidates.push_back(kernel.candidate(problem, builtin_variant(problem.spec.variant.name), gpu));
  }
  for (const Candidate& candidate : candidates) {
    if (candidate.refusal.empty() && (best == nullptr || candidate.cost < best->cost)) {
      best = &candidate;
    }
  }
  EXPECT_NE(best, nullptr) << problem.spec.to_string();
  return best->choice;
}

class Compile : public testing::TestWithParam<const char*> {
 protected:
  Compile() : compiler_(GetParam(), 0) {}
  void SetUp() override {
    if (compiler_.describe().find("NVRTC") == std::string::npos || compiler_.describe().find("no usable") != std::string::npos) {
      GTEST_SKIP() << compiler_.describe();
    }
  }
  const GpuLimits& gpu() const { return std::string(GetParam()) == "sm_80" ? kA100 : kH200; }

  /// Compiles all a problem needs.
  void expect_clean(const Problem& problem) {
    const std::vector<CompileRequest> requests = attention_programs(problem, choice_for(problem, gpu()), gpu());
    const std::vector<jit::Artefact> cubins = compiler_.compile(requests, problem.spec.variant.name);
    for (std::size_t i = 0; i < cubins.size(); ++i) {
      const jit::CompileReport report = jit::read_compile_log(cubins[i].log);
      EXPECT_EQ(report.spilled_bytes, 0) << requests[i].label << " for " << problem.spec.to_string() << "\n" << cubins[i].log;
      EXPECT_TRUE(report.warnings.empty()) << cubins[i].log;
      EXPECT_TRUE(cubins[i].shipped || report.registers > 0) << cubins[i].log;  // what is shipped was judged when it was made
    }
  }

  Compiler compiler_;
};

TEST_P(Compile, Standard) { expect_clean(problem_of("causal", DType::bf16, DType::bf16, {128, 128})); }
TEST_P(Compile, NarrowCacheWithTokenScales) {
  expect_clean(problem_of("sliding_window+soft_cap", DType::f16, DType::e4m3, {64, 64}, {.quant = KvQuant::token}));
}
// One query token a request, and drafts that fill 48 packed rows.
TEST_P(Compile, Decode) {
  expect_clean(problem_of("sliding_window+sink", DType::bf16, DType::bf16, {64, 64}, {.qo_heads = 64, .drafts = 1}));
  expect_clean(problem_of("causal+soft_cap", DType::f16, DType::f16, {128, 128}, {.qo_heads = 56, .drafts = 1}));
  expect_clean(problem_of("causal+custom_mask", DType::bf16, DType::bf16, {128, 128}, {.qo_heads = 96, .drafts = 4}));
  expect_clean(problem_of("causal", DType::bf16, DType::bf16, {192, 128}, {.qo_heads = 128, .drafts = 1}));
  expect_clean(problem_of("causal", DType::bf16, DType::bf16, {128, 128}, {.qo_heads = 64, .drafts = 8}));
}
TEST_P(Compile, DecodeOfNarrowCaches) {
  expect_clean(problem_of("causal", DType::bf16, DType::e4m3, {128, 128}, {.quant = KvQuant::tensor, .drafts = 1}));
  expect_clean(
      problem_of("sliding_window+sink", DType::bf16, DType::e4m3, {128, 128}, {.quant = KvQuant::head, .qo_heads = 64, .drafts = 8}));
}
TEST_P(Compile, LargeHeads) { expect_clean(problem_of("causal+sink", DType::bf16, DType::bf16, {256, 256})); }
TEST_P(Compile, DifferentHeads) {
  expect_clean(problem_of("causal+custom_mask", DType::bf16, DType::e5m2, {192, 128}, {.quant = KvQuant::head}));
}
TEST_P(Compile, FloatTakesTheSimpleKernel) { expect_clean(problem_of("causal+sigmoid", DType::f32, DType::f32, {72, 104})); }
TEST_P(Compile, RotaryEmbedding) { expect_clean(problem_of("rope_neox", DType::bf16, DType::bf16, {128, 128})); }
TEST_P(Compile, CacheOps) {
  const CompileRequest request = cache_ops_program();
  const std::vector<jit::Artefact> cubins = compiler_.compile({&request, 1}, "cache ops");
  EXPECT_EQ(jit::read_compile_log(cubins[0].log).spilled_bytes, 0) << cubins[0].log;
}

TEST_P(Compile, Planner) {
  const CompileRequest request = planner_program();
  const std::vector<jit::Artefact> cubins = compiler_.compile({&request, 1}, "planner");
  const jit::CompileReport report = jit::read_compile_log(cubins[0].log);
  EXPECT_TRUE(report.warnings.empty()) << cubins[0].log;
  EXPECT_EQ(report.spilled_bytes, 0) << cubins[0].log;
}

INSTANTIATE_TEST_SUITE_P(All, Compile, testing::Values("sm_80", "sm_90a"));

}  // namespace
}  // namespace fovea::cuda
