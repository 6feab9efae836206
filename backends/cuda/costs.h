// What planners reckon with, kernel by kernel: built in, measured on an H200; or what FOVEA_COSTS says.
#pragma once

#include <string_view>

#include "portable/config.h"

namespace fovea::cuda {

/// FOVEA_COSTS holds entries "kernel:fixed,per_tile,per_partial,least_share" with a space between two. Throws InvalidArgument for one that
/// can't be read.
CostTable cost_of(std::string_view kernel, const CostTable& built_in);

}  // namespace fovea::cuda
