// Shape of a launch of the planner.
#pragma once

#include "portable/planner_params.h"

namespace fovea::cuda::plan {

inline constexpr int32_t kThreads = 512, kMostThreads = 1024;
inline constexpr int32_t kTotalsBytes = 512;    // a scanned value a warp
inline constexpr int32_t kGroupsOfBlock = 512;  // of a block that writes requests and groups
inline constexpr int32_t kMaxWriters = 16;
inline constexpr int32_t kTotalsAndStateBytes = 4096;  // of shared memory, beside the arrays

}  // namespace fovea::cuda::plan
