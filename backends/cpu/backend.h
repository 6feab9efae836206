// The CPU backend: x86 with AVX2 or AVX-512, threads from oneTBB.
#pragma once

#include <memory>

#include "src/backend.h"

namespace fovea {

/// Throws InvalidArgument for an unknown isa, Unsupported for an isa this machine lacks.
std::unique_ptr<Backend> make_cpu_backend(const EngineOptions& options);

}  // namespace fovea
