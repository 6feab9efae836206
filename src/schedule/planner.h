// A launch of the planner kernel, as the host prepares it: params from problem, plan and batch.
#pragma once

#include <cstddef>

#include "portable/planner_params.h"
#include "src/schedule/schedule.h"

namespace fovea {

/// Bytes of scratch for one mask group: an upper bound of what planner.h takes.
std::int64_t planner_scratch_bytes(const PlanCapacity& capacity);

/// Everything but masks, status and scratch. `arrays` on the device. The batch is of check_device_batch(), or a checked one.
PlannerParams planner_params(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch,
                             const PlanArraysMut& arrays);

/// Adds a mask group to a launch: its range, and where its schedules go.
void add_mask(PlannerParams& params, const PlanCapacity& capacity, const PlanArraysMut& arrays, std::int32_t mask_group, KvRange range);

}  // namespace fovea
