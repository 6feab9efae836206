// Tensors as the copy unit of sm_90 sees them: made on the host, given to kernels by value (backends/cuda/device/ptx/bulk_copy.cuh).
#pragma once

#include <cstdint>
#include <span>

#include "backends/cuda/driver_api.h"
#include "fovea/dtype.h"

namespace fovea::cuda {

inline constexpr int kMaxTensorMapRank = 5;

/// A tensor of up to 5 axes, innermost first, and the boxes that are copied from it. Rows of a box are `swizzle_bytes` wide or narrower in
/// shared memory: 128, 64, 32; 0 leaves them as they are.
struct TensorMapShape {
  DType dtype;
  std::span<const std::uint64_t> extents;
  std::span<const std::uint64_t> strides_bytes;  // of axes 1 .. rank - 1; the innermost is contiguous
  std::span<const unsigned> box;
  int swizzle_bytes = 128;
};

/// Can the copy unit read a tensor that begins here, with these strides in bytes? Both are multiples of 16.
bool can_be_mapped(const void* tensor, std::span<const std::uint64_t> strides_bytes);

/// Host only, well below a microsecond; in a GPU's context. Throws DeviceFailed when the driver refuses.
TensorMap tensor_map(const void* tensor, const TensorMapShape& shape);

}  // namespace fovea::cuda
