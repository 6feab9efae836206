// Cubins inside the library, compiled when it was built: what the models that `fovea replay` knows need, merges and cache operations
// included. None when it was built without NVRTC (CMake's FOVEA_SHIP_CUBINS).
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/compiler.h"

namespace fovea::cuda {

struct ShippedCubin {
  jit::Digest digest;  // digest_of() its request
  std::string_view bytes;
};

/// What was built in, and the major version of CUDA that compiled it.
struct ShippedCubins {
  std::span<const ShippedCubin> cubins;
  int major = 0;
};

/// Defined by a generated file, or by no_shipped_cubins.cc.
ShippedCubins shipped_cubins();

/// One that a driver of that version loads; 0: any. Null where there is none.
const ShippedCubin* find_shipped(const jit::Digest& digest, int driver_version);

/// The architectures that are shipped.
inline constexpr std::string_view kShippedArchitectures[] = {"sm_80", "sm_90a"};

/// Everything that is shipped for an architecture, each once.
std::vector<CompileRequest> shipped_requests(std::string_view architecture);

}  // namespace fovea::cuda
