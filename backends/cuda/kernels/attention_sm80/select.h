// attention_sm80 for the host: which problems it takes, with which tiles.
#pragma once

#include "backends/cuda/kernels.h"

namespace fovea::cuda::attention_sm80 {

Candidate candidate(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu);
KernelCode code(const Problem& problem, const GpuLimits& gpu, const KernelConfig& config);

}  // namespace fovea::cuda::attention_sm80
