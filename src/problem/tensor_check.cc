// Checks that every tensor argument has in common.
#include "src/problem/tensor_check.h"

#include <algorithm>

namespace fovea {
namespace {

constexpr std::int64_t kMaxOffset = std::int64_t{1} << 62;

/// Elements between the first and the last of one axis; kMaxOffset or more when that does not fit.
std::int64_t reach(const TensorView& tensor, int axis) {
  std::int64_t elements = 0;
  if (tensor.dim(axis) == 0 || __builtin_mul_overflow(tensor.dim(axis) - 1, tensor.stride(axis), &elements)) {
    return tensor.dim(axis) == 0 ? 0 : kMaxOffset;
  }
  return elements;
}

}  // namespace

void check_tensor(const Argument& name, const TensorView& tensor, int rank, std::string_view shape, Device device) {
  FOVEA_CHECK(tensor.defined(), "{}: {} is not given; it needs {}", name.where, name, shape);
  FOVEA_CHECK(static_cast<int>(tensor.dtype) < kNumDTypes, "{}: the dtype of {} is number {}; fovea has {} dtypes", name.where, name,
              static_cast<int>(tensor.dtype), +kNumDTypes);
  FOVEA_CHECK(tensor.ndim == rank, "{}: {} has {} axes; it needs {}", name.where, name, tensor.ndim, shape);
  std::int64_t span = 0;
  for (int axis = 0; axis < rank; ++axis) {
    FOVEA_CHECK(tensor.dim(axis) >= 0, "{}: shape[{}] of {} is {}; extents are not negative", name.where, axis, name, tensor.dim(axis));
    const std::int64_t elements = reach(tensor, axis);
    FOVEA_CHECK(-kMaxOffset / 64 < elements && elements < kMaxOffset / 64,
                "{}: axis {} of {} spans {} steps of {} elements; offsets must fit 64 bits", name.where, axis, name, tensor.dim(axis),
                tensor.stride(axis));
    span |= tensor.dim(axis) == 0 ? 1 : 0;
  }
  FOVEA_CHECK(tensor.data != nullptr || span == 1, "{}: {} has elements but its data is null", name.where, name);
  const std::uintptr_t element_bytes = static_cast<std::uintptr_t>(row_of(tensor.dtype).bits) / 8;
  FOVEA_CHECK(reinterpret_cast<std::uintptr_t>(tensor.data) % element_bytes == 0,
              "{}: the data of {} is {} bytes past a multiple of its elements' {}; elements are aligned to themselves", name.where, name,
              reinterpret_cast<std::uintptr_t>(tensor.data) % element_bytes, element_bytes);
  FOVEA_CHECK(tensor.device == device, "{}: {} is on {} but the engine runs on {}", name.where, name, tensor.device.to_string(),
              device.to_string());
}

void check_dtype(const Argument& name, const TensorView& tensor, DType dtype) {
  FOVEA_CHECK(tensor.dtype == dtype, "{}: {} has dtype {}; it needs {}", name.where, name, name_of(tensor.dtype), name_of(dtype));
}

void check_wide_dtype(const Argument& name, const TensorView& tensor) {
  FOVEA_CHECK(tensor.dtype == DType::f32 || tensor.dtype == DType::f16 || tensor.dtype == DType::bf16,
              "{}: {} has dtype {}; it may be f32, f16 or bf16", name.where, name, name_of(tensor.dtype));
}

void check_innermost(const Argument& name, const TensorView& tensor) {
  const int last = tensor.ndim - 1;
  FOVEA_CHECK(tensor.dim(last) <= 1 || tensor.stride(last) == 1, "{}: {} has innermost stride {}; it must be 1", name.where, name,
              tensor.stride(last));
}

void check_any_vector(const Argument& name, const TensorView& tensor, DType dtype, Device device) {
  check_tensor(name, tensor, 1, "one axis", device);
  check_dtype(name, tensor, dtype);
  check_innermost(name, tensor);
}

void check_vector(const Argument& name, const TensorView& tensor, DType dtype, std::int64_t count, Device device) {
  check_any_vector(name, tensor, dtype, device);
  FOVEA_CHECK(tensor.dim(0) == count, "{}: {} has {} entries; it needs {}", name.where, name, tensor.dim(0), count);
}

MemoryRange memory_range(const TensorView& tensor) {
  std::int64_t below = 0, above = 1;
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    if (tensor.dim(axis) == 0) {
      return {};
    }
    const std::int64_t elements = reach(tensor, axis);
    (elements < 0 ? below : above) += elements;
  }
  const std::uintptr_t data = reinterpret_cast<std::uintptr_t>(tensor.data);
  const int bits = row_of(tensor.dtype).bits;
  return {data + static_cast<std::uintptr_t>(below * bits / 8), data + static_cast<std::uintptr_t>(above * bits / 8)};
}

bool same_view(const TensorView& a, const TensorView& b) {
  if (a.data != b.data || a.dtype != b.dtype || a.ndim != b.ndim) {
    return false;
  }
  for (int axis = 0; axis < a.ndim; ++axis) {
    if (a.dim(axis) != b.dim(axis) || a.stride(axis) != b.stride(axis)) {
      return false;
    }
  }
  return true;
}

void check_apart(const Argument& a, const TensorView& tensor_a, const Argument& b, const TensorView& tensor_b) {
  if (!tensor_a.defined() || !tensor_b.defined()) {
    return;
  }
  FOVEA_CHECK(!memory_range(tensor_a).overlaps(memory_range(tensor_b)), "{}: {} overlaps {} in memory; what is written must lie apart",
              a.where, a, b);
}

void check_writable(const Argument& name, const TensorView& tensor) {
  // Axes by growing stride: each must step over all that the ones before it span.
  std::int64_t spanned = 1;
  unsigned done = 0;
  for (int n = 0; n < tensor.ndim; ++n) {
    int next = -1;
    for (int axis = 0; axis < tensor.ndim; ++axis) {
      if ((done >> axis & 1u) == 0 && (next < 0 || std::abs(tensor.stride(axis)) < std::abs(tensor.stride(next)))) {
        next = axis;
      }
    }
    done |= 1u << next;
    if (tensor.dim(next) > 1) {
      FOVEA_CHECK(std::abs(tensor.stride(next)) >= spanned,
                  "{}: {} is written but its elements overlap: stride {} of axis {} is less than {}", name.where, name, tensor.stride(next),
                  next, spanned);
      spanned += std::abs(reach(tensor, next));
    }
  }
}

void check_indptr(const Argument& name, const std::int32_t* indptr, std::int32_t count) {
  FOVEA_CHECK(indptr[0] == 0, "{}: {}[0] = {}; it must be 0", name.where, name, indptr[0]);
  bool ordered = true;
  for (std::int32_t i = 0; i < count; ++i) {
    ordered &= indptr[i] <= indptr[i + 1];
  }
  for (std::int32_t i = 0; !ordered && i < count; ++i) {
    FOVEA_CHECK(indptr[i] <= indptr[i + 1], "{}: {}[{}] = {} is less than {}[{}] = {}; it must not decrease", name.where, name, i + 1,
                indptr[i + 1], name, i, indptr[i]);
  }
}

}  // namespace fovea
