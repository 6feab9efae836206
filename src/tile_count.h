// How many of a plan's tiles are empty, mixed and full, found as kernels find them: by the mask's range first, then by what is known of its
// tiles or its `keep` on intervals. And what is to be known of them: the classes of a batch's tiles.
#pragma once

#include "fovea/engine.h"
#include "portable/params.h"
#include "src/backend.h"

namespace fovea {

VariantDescription describe(const VariantInfo& variant);

struct Classification {
  const VariantInfo& variant;
  const void* mask;
  KvRange range;
  const BatchView& view;
  const Problem& problem;
  const ClassifyOptions& options;
};

/// Every tile of every request, each asked once, by the backend's threads.
ClassifiedTiles classify_tiles(const Classification& c, const Backend& backend);

/// `params` is a planned launch with its mask; both are in the host's reach.
TileCounts count_tiles(const KernelParams& params, const VariantInfo& variant);

}  // namespace fovea
