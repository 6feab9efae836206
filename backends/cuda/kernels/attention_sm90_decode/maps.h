// The tensor maps of a run's caches.
#pragma once

#include "portable/params.h"

namespace fovea::cuda::attention_sm90_decode {

/// Maps<params.num_formats> (layout.h) at `maps`.
void make_maps(const KernelParams& params, void* maps);

}  // namespace fovea::cuda::attention_sm90_decode
