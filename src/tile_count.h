// How many of a plan's tiles are empty, mixed and full, found as kernels find them: by the mask's range first, then by its `keep` on
// intervals.
#pragma once

#include "fovea/engine.h"
#include "portable/params.h"
#include "src/backend.h"

namespace fovea {

VariantDescription describe(const VariantInfo& variant);

/// `params` is a planned launch with its mask; both are in the host's reach.
TileCounts count_tiles(const KernelParams& params, const VariantInfo& variant);

}  // namespace fovea
