// A library without cubins: built without NVRTC, or the one that the shipped cubins are made with.
#include "backends/cuda/shipped.h"

namespace fovea::cuda {

ShippedCubins shipped_cubins() { return {}; }

}  // namespace fovea::cuda
