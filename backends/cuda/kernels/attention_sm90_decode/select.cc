#include "backends/cuda/kernels/attention_sm90_decode/select.h"

#include <fmt/format.h>

#include <algorithm>

#include "backends/cuda/costs.h"
#include "backends/cuda/kernels/attention_sm80/select.h"
#include "backends/cuda/kernels/attention_sm90_decode/layout.h"
#include "backends/cuda/kernels/attention_sm90_decode/maps.h"
#include "src/select/policy_configs.h"

namespace fovea::cuda::attention_sm90_decode {
namespace {

constexpr const char* kName = "attention_sm90_decode";
constexpr std::uint64_t kCost = 50;
constexpr std::int32_t kMaxDim = 256;
constexpr std::int32_t kSharedOfCta = 1024;
constexpr std::int32_t kMaxStages = 6;
constexpr std::int32_t kMaxDrafts = 8;   // query tokens of a request that are taken together
constexpr std::int32_t kUsualRows = 32;  // packed rows of them where limits allow prefill, and nobody says how many drafts there may be
// Perf: of seven tables the best at ten shapes, see notes.md (H200, 2026-11-23).
constexpr CostTable kFewCost{.fixed = 24, .per_tile = 16, .per_partial = 8};

static_assert(sizeof(Maps<kMaxFormats>) <= kMaxExtraBytes, "see kernels.h");

/// Packed rows of a tile: all of a decoding request, or of one that verifies a few drafts, where there is room for them.
std::int32_t rows_of(const Problem& problem) {
  const std::int32_t tokens = std::clamp(problem.limits.max_query_tokens_per_request, 1, kMaxDrafts);
  const std::int32_t most = problem.limits.max_query_tokens_per_request <= kMaxDrafts ? kMaxTileQ : kUsualRows;
  const std::int32_t fitting = std::max(1, std::min(tokens, most / problem.group_size));
  return ceil_div(fitting * problem.group_size, 8) * 8;
}

struct Fit {
  std::int32_t ctas = 0, stages = 0;
};

Config config_with(const Problem& problem, PlanForm form, const Fit& fit) {
  const AttentionSpec& spec = problem.spec;
  return {.q = spec.q_dtype,
          .k = spec.k_dtype,
          .v = spec.v_dtype,
          .head_dim_qk = ceil_div(spec.head_dim_qk, 16) * 16,
          .head_dim_vo = ceil_div(spec.head_dim_vo, 16) * 16,
          .tile_q = rows_of(problem),
          .stages = fit.stages,
          .ctas = fit.ctas,
          .num_formats = static_cast<std::int32_t>(spec.formats.size()),
          .form = form};
}

/// Two CTAs a multiprocessor with two stages or more each, else one.
Fit fit_of(const Problem& problem, const GpuLimits& gpu) {
  for (const std::int32_t ctas : {2, 1}) {
    for (std::int32_t stages = kMaxStages; stages >= 2; --stages) {
      const Fit fit{.ctas = ctas, .stages = stages};
      if ((layout_of(config_with(problem, PlanForm::ranges, fit)).bytes + kSharedOfCta) * ctas <= gpu.max_shared_bytes + kSharedOfCta) {
        return fit;
      }
    }
  }
  return {};
}

KernelConfig few_of(const Problem& problem) {
  return {.tile_q = rows_of(problem), .tile_kv = kTileKv, .form = PlanForm::ranges, .cost = cost_of(kName, kFewCost)};
}

/// Empty: taken.
std::string refusal_of(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu) {
  const AttentionSpec& spec = problem.spec;
  if (gpu.architecture != "sm_90a") {
    return "it multiplies with wgmma, which sm_90 alone has";
  }
  if (variant.transforms_query || variant.transforms_key || variant.transforms_value) {
    return fmt::format("variant '{}' transforms queries, keys or values", spec.variant.name);
  }
  const bool same = row_of(spec.k_dtype).bits == 16 && spec.q_dtype == spec.k_dtype && spec.v_dtype == spec.k_dtype;
  const bool narrow = row_of(spec.k_dtype).bits == 8 && row_of(spec.v_dtype).bits == 8 && row_of(spec.q_dtype).bits <= 16;
  if (!same && !narrow) {
    return fmt::format("q, k and v are {}, {} and {}; it takes all f16, all bf16, or k and v of 8 bits", name_of(spec.q_dtype),
                       name_of(spec.k_dtype), name_of(spec.v_dtype));
  }
  if (spec.kv_quant == KvQuant::token) {
    return "the cache has scales of tokens";
  }
  if (problem.group_size > kMaxTileQ) {
    return fmt::format("{} query heads share a kv head; at most {}", problem.group_size, kMaxTileQ);
  }
  if (spec.head_dim_qk > kMaxDim || spec.head_dim_vo > kMaxDim) {
    return fmt::format("head dims {} and {}; at most {}", spec.head_dim_qk, spec.head_dim_vo, kMaxDim);
  }
  for (std::size_t f = 0; f < spec.formats.size(); ++f) {
    if (spec.formats[f].by_index) {
      return fmt::format("format {} is block-sparse", f);
    }
  }
  if (problem.options.policy == Policy::fixed_split && problem.options.fixed_split % kTileKv != 0) {
    return fmt::format("fixed_split = {} is no multiple of {}, its kv tile", problem.options.fixed_split, kTileKv);
  }
  if (fit_of(problem, gpu).ctas == 0) {
    return fmt::format("two kv tiles don't fit into {} bytes of shared memory", gpu.max_shared_bytes);
  }
  return {};
}

bool is_few(const Problem& problem, const KernelConfig& kernel) {
  const KernelConfig few = few_of(problem);
  return kernel.tile_q == few.tile_q && kernel.tile_kv == few.tile_kv && kernel.cost == few.cost;
}

}  // namespace

Candidate candidate(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu) {
  Candidate answer{.kernel = kName, .refusal = refusal_of(problem, variant, gpu), .cost = kCost};
  if (!answer.refusal.empty()) {
    return answer;
  }
  // Requests of more rows are attention_sm80's.
  const Candidate many = attention_sm80::candidate(problem, variant, gpu);
  if (!many.refusal.empty()) {
    answer.refusal = "for many rows: " + many.refusal;
    return answer;
  }
  const Fit fit = fit_of(problem, gpu);
  answer.choice = {.kernel = answer.kernel,
                   .configs = policy_configs(problem, few_of(problem), many.choice.configs.back()),
                   .num_workers = problem.options.num_workers > 0 ? problem.options.num_workers : fit.ctas * gpu.num_multiprocessors,
                   .reason = fmt::format("{} CTAs a multiprocessor, {} stages; attention_sm80 for many rows", fit.ctas, fit.stages)};
  return answer;
}

KernelCode code(const Problem& problem, const GpuLimits& gpu, const KernelConfig& kernel) {
  if (!is_few(problem, kernel)) {
    return attention_sm80::code(problem, gpu, kernel);
  }
  const Fit fit = fit_of(problem, gpu);
  const Config c = config_with(problem, kernel.form, fit);
  return {
      .include = "backends/cuda/kernels/attention_sm90_decode/kernel.cuh",
      .call = "fovea::cuda::attention_sm90_decode::attention<kConfig, Rule>",
      .definition = fmt::format("fovea::cuda::attention_sm90_decode::Config kConfig{{.q = fovea::DType::{}, .k = fovea::DType::{}, .v = "
                                "fovea::DType::{},\n    .head_dim_qk = {}, "
                                ".head_dim_vo = {},\n"
                                "    .tile_q = {}, .stages = {}, .ctas = {}, .num_formats = {}, .form = fovea::PlanForm::{}}}",
                                name_of(c.q), name_of(c.k), name_of(c.v), c.head_dim_qk, c.head_dim_vo, c.tile_q, c.stages, c.ctas,
                                c.num_formats, c.form == PlanForm::ranges ? "ranges" : "list"),
      .threads = kThreads,
      .ctas = fit.ctas,
      .shared_bytes = layout_of(c).bytes,
      .extra = fmt::format("fovea::cuda::attention_sm90_decode::Maps<{}>", c.num_formats),
      .make_extra = make_maps};
}

}  // namespace fovea::cuda::attention_sm90_decode
