#include "backends/cuda/kernels/attention_simt/select.h"

#include <fmt/format.h>

#include <algorithm>

namespace fovea::cuda::attention_simt {
namespace {

constexpr std::int32_t kThreads = 256;  // 8 warps: attention_simt::kWarps
constexpr std::int32_t kCtas = 2;       // of a multiprocessor
constexpr std::uint64_t kCost = 10'000;

}  // namespace

Candidate candidate(const Problem& problem, const VariantShape&, const GpuLimits& gpu) {
  // Tiles are planning units alone: the kernel goes from column to column. Any fixed split is a multiple of one of these.
  std::int32_t tile_kv = 64;
  while (problem.options.policy == Policy::fixed_split && problem.options.fixed_split % tile_kv != 0) {
    tile_kv /= 2;
  }
  const KernelConfig config{
      .tile_q = 16, .tile_kv = tile_kv, .form = PlanForm::list, .cost = {.fixed = 4, .per_tile = 64, .per_partial = 4}};
  return {.kernel = "attention_simt",
          .refusal = {},
          .cost = kCost,
          .choice = {.kernel = "attention_simt",
                     .configs = {config},
                     .num_workers = problem.options.num_workers > 0 ? problem.options.num_workers : kCtas * gpu.num_multiprocessors,
                     .reason = "takes every problem, slowly"}};
}

KernelCode code(const Problem& problem, const GpuLimits&, const KernelConfig& config) {
  const AttentionSpec& spec = problem.spec;
  return {.include = "backends/cuda/kernels/attention_simt/kernel.cuh",
          .call = "fovea::cuda::attention_simt::attention<kConfig, Rule>",
          .definition =
              fmt::format("fovea::cuda::attention_simt::Config kConfig{{.q = fovea::DType::{}, .k = fovea::DType::{}, .v = "
                          "fovea::DType::{}, .dims_a_lane = {}, .form = fovea::PlanForm::{}}}",
                          name_of(spec.q_dtype), name_of(spec.k_dtype), name_of(spec.v_dtype),
                          ceil_div(std::max(spec.head_dim_qk, spec.head_dim_vo), 32), config.form == PlanForm::ranges ? "ranges" : "list"),
          .threads = kThreads,
          .ctas = 1,
          .shared_bytes = 0};
}

}  // namespace fovea::cuda::attention_simt
