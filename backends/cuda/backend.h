// The CUDA backend: NVIDIA GPUs of sm_80 and newer. Neither its build nor its users need a CUDA toolkit: the driver is opened when an
// engine is made, and kernels are compiled by NVRTC and kept on disk.
#pragma once

#include <memory>

#include "fovea/compile.h"
#include "src/backend.h"

namespace fovea {

/// Throws DeviceFailed without a driver, InvalidArgument for a GPU that is not there, Unsupported for one that is too old.
std::unique_ptr<Backend> make_cuda_backend(const EngineOptions& options);

/// compile_ahead() and compile_anew() of fovea/compile.h. Needs neither driver nor GPU.
std::vector<CompiledKernel> compile_for_gpu(std::string_view architecture, const AttentionSpec& spec, bool anew);

}  // namespace fovea
