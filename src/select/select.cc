#include "src/select/select.h"

#include <fmt/format.h>

#include <utility>

#include "src/support/check.h"

namespace fovea {

Selection select_kernel(const Problem& problem, const Backend& backend) {
  Selection selection{.candidates = backend.candidates(problem)};
  const Candidate* best = nullptr;
  for (const Candidate& candidate : selection.candidates) {
    if (candidate.refusal.empty() && (best == nullptr || candidate.cost < best->cost)) {
      best = &candidate;
    }
  }
  if (best == nullptr) {
    std::string text = fmt::format("prepare: no kernel on {} accepts this problem ({}):", backend.describe(), problem.spec.to_string());
    for (const Candidate& candidate : selection.candidates) {
      text += fmt::format("\n    {:<18} {}", candidate.kernel, candidate.refusal);
    }
    throw Unsupported(text);
  }
  selection.choice = best->choice;
  const Choice& c = selection.choice;
  FOVEA_ASSERT(!c.configs.empty() && c.configs.size() <= kMaxKernelConfigs && c.num_workers > 0, "kernel {} chose {} configs, {} workers",
               c.kernel, c.configs.size(), c.num_workers);
  FOVEA_ASSERT(c.configs.back().form == PlanForm::list, "kernel {}: the last config must be a list, for groups of any number of rows",
               c.kernel);
  return selection;
}

namespace {

std::string describe(const KernelConfig& config) {
  return fmt::format("{} of {} rows x {} columns, cost {} + {} a tile + {} a partial{} (1/16 tile)",
                     config.form == PlanForm::ranges ? "ranges" : "list  ", config.tile_q, config.tile_kv, config.cost.fixed,
                     config.cost.per_tile, config.cost.per_partial,
                     config.cost.least_share > 1 ? fmt::format(", a worker's share at least {}", config.cost.least_share) : "");
}

}  // namespace

std::string describe(const Selection& selection) {
  std::string text;
  for (const Candidate& candidate : selection.candidates) {
    if (!candidate.refusal.empty()) {
      text += fmt::format("  {:<18} refused: {}\n", candidate.kernel, candidate.refusal);
      continue;
    }
    const bool chosen = candidate.kernel == selection.choice.kernel;
    text += fmt::format("  {:<18} {}, cost {}{}\n", candidate.kernel, chosen ? "chosen" : "accepted", candidate.cost,
                        candidate.choice.reason.empty() ? "" : ": " + candidate.choice.reason);
    for (const KernelConfig& config : candidate.choice.configs) {
      text += fmt::format("  {:<18}   {}\n", "", describe(config));
    }
  }
  return text;
}

}  // namespace fovea
