#include "backends/cuda/kernels/attention_sm80/select.h"

#include <fmt/format.h>

#include <optional>

#include "backends/cuda/kernels/attention_sm80/layout.h"
#include "src/select/policy_configs.h"
#include "src/support/check.h"

namespace fovea::cuda::attention_sm80 {
namespace {

constexpr std::uint64_t kCost = 100;
constexpr std::int32_t kMaxDim = 256;  // o of 16 rows in registers: half of them at 256
constexpr std::int32_t kSharedOfCta = 1024;
constexpr std::int32_t kFewRows = 16, kManyRows = 64, kMostRows = 128;
constexpr std::int32_t kMaxDimOfMostRows = 128;
constexpr std::int32_t kTilesKv[] = {64, 32, 16};
constexpr std::int32_t kThreadsOfRegisters = 256;

/// Room for `ctas` CTAs on a multiprocessor.
bool fits(const Config& config, const GpuLimits& gpu, std::int32_t ctas) {
  return (layout_of(config).bytes + kSharedOfCta) * ctas <= gpu.max_shared_bytes + kSharedOfCta;
}

/// Does o take the registers of a warp that has 32 rows?
bool is_wide(const Problem& problem) { return problem.spec.head_dim_vo > kMaxDimOfMostRows; }

/// How a configuration is compiled. Few rows: the warps share the columns of a tile. Many rows: each has rows of its own.
/// 32 rows a warp, so that k and v fragments are used twice, unless o takes the registers: then 16, of eight warps that share the tiles, or
/// of four with one tile in shared memory, whose keys and values take turns: it has 64 columns where two have 32.
Config config_of(const Problem& problem, const KernelConfig& kernel) {
  const AttentionSpec& spec = problem.spec;
  const bool few = kernel.tile_q == kFewRows;
  return Config{.q = spec.q_dtype,
                .k = spec.k_dtype,
                .v = spec.v_dtype,
                .o = spec.o_dtype,
                .head_dim_qk = ceil_div(spec.head_dim_qk, 16) * 16,
                .head_dim_vo = ceil_div(spec.head_dim_vo, 16) * 16,
                .tile_q = kernel.tile_q,
                .tile_kv = kernel.tile_kv,
                .warps_q = few                ? 1
                           : is_wide(problem) ? kernel.tile_q / 16
                                              : 4,
                .warps_kv = few ? kernel.tile_kv / 16 : 1,
                .stages = kernel.tile_q == kManyRows ? 1 : 2,
                .token_scales = spec.kv_quant == KvQuant::token,
                .form = kernel.form};
}

/// CTAs of a multiprocessor that this kernel wants: two, where shared memory has room and registers (256 for each of 256 threads).
std::int32_t ctas_of(const Problem& problem, const GpuLimits& gpu, const KernelConfig& kernel) {
  for (const std::int32_t ctas : {2, 1}) {
    if (ctas * num_threads(config_of(problem, kernel)) <= kThreadsOfRegisters && fits(config_of(problem, kernel), gpu, ctas)) {
      return ctas;
    }
  }
  return 0;
}

/// The largest kv tile of which two CTAs fit, else the largest that fits at all; 0 where none does.
KernelConfig with_tile(const Problem& problem, const GpuLimits& gpu, KernelConfig kernel) {
  std::int32_t best_tile = 0, best_ctas = 0;
  for (const std::int32_t tile_kv : kTilesKv) {
    if (problem.options.policy == Policy::fixed_split && problem.options.fixed_split % tile_kv != 0) {
      continue;
    }
    kernel.tile_kv = tile_kv;
    const std::int32_t ctas = ctas_of(problem, gpu, kernel);
    if (ctas > best_ctas) {
      best_tile = tile_kv;
      best_ctas = ctas;
    }
  }
  kernel.tile_kv = best_tile;
  return kernel;
}

/// Rows of the configuration for many: as many as have room for tiles of 64 columns.
std::int32_t many_rows(const Problem& problem, const GpuLimits& gpu) {
  const bool most = !is_wide(problem) || fits(config_of(problem, {.tile_q = kMostRows, .tile_kv = kTilesKv[0]}), gpu, 1);
  return most ? kMostRows : kManyRows;
}

std::vector<KernelConfig> configs_for(const Problem& problem, const GpuLimits& gpu) {
  // Costs in 1/16 of a tile of their own. An item is about two tiles of latency before the first is there; of many rows, cutting one in
  // two also costs as much as several tiles, which only a large fixed cost tells the planner.
  const KernelConfig few{.tile_q = kFewRows, .form = PlanForm::ranges, .cost = {.fixed = 32, .per_tile = 16, .per_partial = 16}};
  const KernelConfig many{
      .tile_q = many_rows(problem, gpu), .form = PlanForm::list, .cost = {.fixed = 112, .per_tile = 16, .per_partial = 16}};
  return policy_configs(problem, with_tile(problem, gpu, few), with_tile(problem, gpu, many));
}

/// Empty: taken.
std::string refusal_of(const AttentionSpec& spec, const VariantShape& variant) {
  if (variant.transforms_query || variant.transforms_key || variant.transforms_value) {
    return fmt::format("variant '{}' transforms queries, keys or values", spec.variant.name);
  }
  std::optional<DType> wide;
  for (const auto& [role, dtype] : {std::pair{"q", spec.q_dtype}, std::pair{"k", spec.k_dtype}, std::pair{"v", spec.v_dtype}}) {
    if (row_of(dtype).bits > 16) {
      return fmt::format("{} is {}; it multiplies f16, bf16, e4m3 and e5m2", role, name_of(dtype));
    }
    if (row_of(dtype).bits == 16) {
      if (wide && *wide != dtype) {
        return fmt::format("{} is {} beside {}; 16-bit types may not be mixed", role, name_of(dtype), name_of(*wide));
      }
      wide = dtype;
    }
  }
  if (row_of(spec.q_dtype).bits == 8 && spec.o_dtype == DType::f32) {
    return fmt::format("o is f32 with queries in {}; it rounds weights to 16 bits", name_of(spec.q_dtype));
  }
  if (spec.head_dim_qk > kMaxDim || spec.head_dim_vo > kMaxDim) {
    return fmt::format("head dims {} and {}; at most {}", spec.head_dim_qk, spec.head_dim_vo, kMaxDim);
  }
  return {};
}

}  // namespace

Candidate candidate(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu) {
  Candidate answer{.kernel = "attention_sm80", .refusal = refusal_of(problem.spec, variant), .cost = kCost};
  if (!answer.refusal.empty()) {
    return answer;
  }
  const std::vector<KernelConfig> configs = configs_for(problem, gpu);
  // Ranges have a CTA a worker; lists fill the GPU, whatever their number.
  std::int32_t ctas = 2, workers = 0;
  for (const KernelConfig& config : configs) {
    ctas = std::min(ctas, config.tile_kv == 0 ? 0 : ctas_of(problem, gpu, config));
    workers = workers == 0 || config.form == PlanForm::ranges ? ctas_of(problem, gpu, config) : workers;
  }
  if (ctas == 0) {
    answer.refusal =
        problem.options.policy == Policy::fixed_split && problem.options.fixed_split % kTilesKv[2] != 0
            ? fmt::format("fixed_split = {} is no multiple of {}, its smallest kv tile", problem.options.fixed_split, kTilesKv[2])
            : fmt::format("no kv tile fits into {} bytes of shared memory", gpu.max_shared_bytes);
    return answer;
  }
  answer.choice = {.kernel = answer.kernel,
                   .configs = configs,
                   .num_workers = problem.options.num_workers > 0 ? problem.options.num_workers : workers * gpu.num_multiprocessors,
                   .reason = fmt::format("{} CTAs a multiprocessor", workers)};
  return answer;
}

KernelCode code(const Problem& problem, const GpuLimits& gpu, const KernelConfig& kernel) {
  const Config c = config_of(problem, kernel);
  return {.include = "backends/cuda/kernels/attention_sm80/kernel.cuh",
          .call = "fovea::cuda::attention_sm80::attention<kConfig, Rule>",
          .definition = fmt::format(
              "fovea::cuda::attention_sm80::Config kConfig{{.q = fovea::DType::{}, .k = fovea::DType::{}, .v = fovea::DType::{}, .o = "
              "fovea::DType::{},\n"
              "    .head_dim_qk = {}, .head_dim_vo = {}, .tile_q = {}, .tile_kv = {}, .warps_q = {}, .warps_kv = {}, .stages = {}, "
              ".token_scales = {}, .form = fovea::PlanForm::{}}}",
              name_of(c.q), name_of(c.k), name_of(c.v), name_of(c.o), c.head_dim_qk, c.head_dim_vo, c.tile_q, c.tile_kv, c.warps_q,
              c.warps_kv, c.stages, c.token_scales, c.form == PlanForm::ranges ? "ranges" : "list"),
          .threads = num_threads(c),
          .ctas = ctas_of(problem, gpu, kernel),
          .shared_bytes = layout_of(c).bytes};
}

}  // namespace fovea::cuda::attention_sm80
