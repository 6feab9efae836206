// Shape of a launch of the planner.
#pragma once

#include "portable/planner_errors.h"

namespace fovea::cuda::plan {

inline constexpr int32_t kThreads = 512;
inline constexpr int32_t kTotalsBytes = 512;                         // a scanned value a warp
inline constexpr int32_t kBlockBytes = kTotalsBytes + kThreads * 4;  // and a counter a thread
inline constexpr int32_t kArraysAt = kBlockBytes + 2048;             // behind PlannerState
inline constexpr int32_t kGroupsOfBlock = 512;                       // of a block that writes requests and groups
static_assert(sizeof(PlannerState) <= kArraysAt - kBlockBytes);
inline constexpr int32_t kMaxWriters = 16;

}  // namespace fovea::cuda::plan
