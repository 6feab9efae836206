#include "backends/cuda/tensor_map.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "backends/cuda/driver.h"
#include "src/support/check.h"

namespace fovea::cuda {
namespace {

// CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapL2promotion
constexpr int kUint8 = 0, kFloat16 = 6, kFloat32 = 7, kBfloat16 = 9;
constexpr int kSwizzleNone = 0, kSwizzle32 = 1, kSwizzle64 = 2, kSwizzle128 = 3;
constexpr int kPromotion128 = 2;  // Perf: 256 loses 7 to 10 % of bandwidth on scattered pages (H200, 2026-11-22)
constexpr std::uint64_t kMaxStrideBytes = std::uint64_t{1} << 40;

int element_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return kFloat32;
    case DType::f16:
      return kFloat16;
    case DType::bf16:
      return kBfloat16;
    default:
      FOVEA_ASSERT(row_of(dtype).bits == 8, "tensor map of {}", name_of(dtype));
      return kUint8;
  }
}

int swizzle_of(int bytes) { return bytes == 128 ? kSwizzle128 : bytes == 64 ? kSwizzle64 : bytes == 32 ? kSwizzle32 : kSwizzleNone; }

}  // namespace

bool can_be_mapped(const void* tensor, std::span<const std::uint64_t> strides_bytes) {
  return reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0 &&
         std::ranges::all_of(strides_bytes, [](std::uint64_t stride) { return stride % 16 == 0 && stride < kMaxStrideBytes; });
}

TensorMap tensor_map(const void* tensor, const TensorMapShape& shape) {
  const std::size_t rank = shape.extents.size();
  FOVEA_ASSERT(rank >= 1 && rank <= kMaxTensorMapRank && shape.strides_bytes.size() == rank - 1 && shape.box.size() == rank,
               "tensor map of {} extents, {} strides and a box of {}", rank, shape.strides_bytes.size(), shape.box.size());
  constexpr unsigned kOnes[kMaxTensorMapRank] = {1, 1, 1, 1, 1};
  TensorMap map;
  checked("cuTensorMapEncodeTiled",
          driver().api.cuTensorMapEncodeTiled(&map, element_of(shape.dtype), static_cast<unsigned>(rank), const_cast<void*>(tensor),
                                              shape.extents.data(), shape.strides_bytes.data(), shape.box.data(), kOnes, 0,
                                              swizzle_of(shape.swizzle_bytes), kPromotion128, 0),
          "{} of {}, strides {} bytes, box {}, swizzle {}", name_of(shape.dtype), shape.extents, shape.strides_bytes, shape.box,
          shape.swizzle_bytes);
  return map;
}

}  // namespace fovea::cuda
