#include "src/select/policy_configs.h"

namespace fovea {

std::vector<KernelConfig> policy_configs(const Problem& problem, KernelConfig few, const KernelConfig& many) {
  switch (problem.options.policy) {
    case Policy::batch_invariant: {
      // One configuration for everything. By the limits alone: a batch of many requests must not change what one request gets.
      const std::int64_t rows = std::int64_t{problem.limits.max_query_tokens_per_request} * problem.group_size;
      few.form = PlanForm::list;
      return {rows <= few.tile_q ? few : many};
    }
    case Policy::fixed_split:
      few.form = PlanForm::list;
      return {few, many};
    case Policy::throughput:
      break;
  }
  return {few, many};
}

}  // namespace fovea
