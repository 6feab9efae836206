#include "backends/cpu/kernels/attention_simd/select.h"

#include <fmt/format.h>

#include "backends/cpu/kernels/attention_simd/kernel.h"
#include "src/select/policy_configs.h"

namespace fovea::cpu {
namespace {

// What machines have differs, plans don't: the number of workers follows from nothing about the machine. 64 keeps any number of threads
// that such a batch can feed busy, and bounds the partial states.
constexpr std::int32_t kDefaultWorkers = 64;

/// kv tiles the kernel has: vectors and panels of every instruction set divide them.
constexpr std::int32_t kTilesKv[] = {64, 32};

/// Few rows: direct dot products, K and V read once for all heads of a group.
KernelConfig few_rows(std::int32_t tile_kv) {
  return {.tile_q = 16, .tile_kv = tile_kv, .form = PlanForm::ranges, .cost = {.fixed = 8, .per_tile = 16, .per_partial = 4}};
}

/// Many rows: tiles packed into panels.
KernelConfig many_rows(std::int32_t tile_kv) {
  return {.tile_q = kMaxTileQ, .tile_kv = tile_kv, .form = PlanForm::list, .cost = {.fixed = 16, .per_tile = 16, .per_partial = 8}};
}

}  // namespace

Candidate attention_simd_candidate(const Problem& problem) {
  Candidate candidate{.kernel = "attention_simd"};
  std::int32_t tile_kv = kTilesKv[0];
  if (problem.options.policy == Policy::fixed_split) {
    tile_kv = 0;
    for (const std::int32_t tile : kTilesKv) {
      if (tile_kv == 0 && problem.options.fixed_split % tile == 0) {
        tile_kv = tile;
      }
    }
    if (tile_kv == 0) {
      candidate.refusal =
          fmt::format("fixed_split = {} is no multiple of {}, its smallest kv tile", problem.options.fixed_split, kTilesKv[1]);
      return candidate;
    }
  }
  candidate.choice = {.kernel = candidate.kernel,
                      .configs = policy_configs(problem, few_rows(tile_kv), many_rows(tile_kv)),
                      .num_workers = problem.options.num_workers > 0 ? problem.options.num_workers : kDefaultWorkers,
                      .reason = "the only attention kernel of this backend"};
  return candidate;
}

}  // namespace fovea::cpu
