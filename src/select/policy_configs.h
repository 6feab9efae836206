// What a policy makes of a kernel's configurations: the same for every backend, so that a policy means the same on all.
#pragma once

#include <vector>

#include "src/backend.h"

namespace fovea {

/// The configurations of a kernel that has one for few rows and one for many, both as they are under Policy::throughput.
std::vector<KernelConfig> policy_configs(const Problem& problem, KernelConfig few, const KernelConfig& many);

}  // namespace fovea
