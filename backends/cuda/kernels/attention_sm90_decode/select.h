// When attention_sm90_decode takes a problem, and how it is compiled for it.
#pragma once

#include "backends/cuda/kernels.h"

namespace fovea::cuda::attention_sm90_decode {

Candidate candidate(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu);
KernelCode code(const Problem& problem, const GpuLimits& gpu, const KernelConfig& kernel);

}  // namespace fovea::cuda::attention_sm90_decode
