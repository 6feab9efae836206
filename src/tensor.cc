// TensorView: views of memory that somebody else owns.
#include "fovea/tensor.h"

#include <array>
#include <iterator>
#include <string>

#include "src/support/check.h"

namespace fovea {
namespace {

/// "float64": what the owner of the tensor calls it.
std::string name_of(const DLDataType& type) {
  constexpr std::array<const char*, 7> kKinds{"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  if (type.code < kKinds.size()) {
    return fmt::format("{}{}", kKinds[type.code], type.code == kDLBool ? "" : std::to_string(type.bits));
  }
  return fmt::format("DLPack code {} with {} bits", int{type.code}, int{type.bits});
}

DType dtype_of(const DLDataType& type) {
  FOVEA_CHECK(type.lanes == 1, "from_dlpack: dtype code {} has {} lanes; fovea takes one element a lane", int{type.code}, int{type.lanes});
  for (int i = 0; i < kNumDTypes; ++i) {
    const DTypeRow& row = kDTypeTable[i];
    if (row.dlpack_code == type.code && row.bits == type.bits) {
      return static_cast<DType>(i);
    }
  }
  throw InvalidArgument(fmt::format("from_dlpack: {} is none of the dtypes that fovea knows; see fovea/dtype.h", name_of(type)));
}

Device device_of(const DLDevice& device) {
  switch (device.device_type) {
    case kDLCPU:
    case kDLCUDAHost:  // pinned memory: the host reads it like any other
      return {DeviceType::cpu, 0};
    case kDLCUDA:
    case kDLCUDAManaged:
      return {DeviceType::cuda, device.device_id};
    default:
      throw InvalidArgument(
          fmt::format("from_dlpack: DLPack device type {} is neither cpu nor cuda", static_cast<int>(device.device_type)));
  }
}

void set_row_major(TensorView& view) {
  std::int64_t stride = 1;
  for (int axis = view.ndim - 1; axis >= 0; --axis) {
    view.strides[static_cast<std::size_t>(axis)] = stride;
    stride *= view.dim(axis);
  }
}

void check_axis(const char* what, const TensorView& view, int axis) {
  FOVEA_CHECK(axis >= 0 && axis < view.ndim, "TensorView::{}: axis {} of a tensor with {} axes", what, axis, view.ndim);
}

TensorView make_view(void* data, DType dtype, std::initializer_list<std::int64_t> shape, Device device) {
  FOVEA_CHECK(shape.size() <= TensorView::kMaxDims, "TensorView: {} axes; at most {}", shape.size(), +TensorView::kMaxDims);
  TensorView view{.data = data, .dtype = dtype, .device = device, .ndim = static_cast<std::int32_t>(shape.size())};
  int axis = 0;
  for (const std::int64_t extent : shape) {
    FOVEA_CHECK(extent >= 0, "TensorView: shape[{}] = {} is negative", axis, extent);
    view.shape[static_cast<std::size_t>(axis++)] = extent;
  }
  return view;
}

template <class T>
TensorView view_of(std::span<const T> values, DType dtype) {
  return TensorView::contiguous(const_cast<T*>(values.data()), dtype, {static_cast<std::int64_t>(values.size())});
}

}  // namespace

std::string Device::to_string() const { return type == DeviceType::cpu ? "cpu" : fmt::format("cuda:{}", id); }

std::int64_t TensorView::numel() const {
  std::int64_t count = ndim > 0 ? 1 : 0;
  for (int axis = 0; axis < ndim; ++axis) {
    count *= dim(axis);
  }
  return count;
}

bool TensorView::is_contiguous() const {
  std::int64_t expected = 1;
  for (int axis = ndim - 1; axis >= 0; --axis) {
    if (dim(axis) == 0) {
      return true;
    }
    if (dim(axis) != 1 && stride(axis) != expected) {
      return false;
    }
    expected *= dim(axis);
  }
  return true;
}

TensorView TensorView::contiguous(void* data, DType dtype, std::initializer_list<std::int64_t> shape, Device device) {
  TensorView view = make_view(data, dtype, shape, device);
  set_row_major(view);
  return view;
}

TensorView TensorView::strided(void* data, DType dtype, std::initializer_list<std::int64_t> shape,
                               std::initializer_list<std::int64_t> strides, Device device) {
  FOVEA_CHECK(shape.size() == strides.size(), "TensorView::strided: {} extents but {} strides", shape.size(), strides.size());
  TensorView view = make_view(data, dtype, shape, device);
  std::copy(strides.begin(), strides.end(), view.strides.begin());
  return view;
}

TensorView TensorView::from_dlpack(const DLTensor& tensor) {
  FOVEA_CHECK(tensor.ndim >= 1 && tensor.ndim <= kMaxDims, "from_dlpack: {} axes; 1 to {} are taken", tensor.ndim, +kMaxDims);
  TensorView view{.data = static_cast<char*>(tensor.data) + tensor.byte_offset,
                  .dtype = dtype_of(tensor.dtype),
                  .device = device_of(tensor.device),
                  .ndim = tensor.ndim};
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    FOVEA_CHECK(tensor.shape[axis] >= 0, "from_dlpack: shape[{}] = {} is negative", axis, tensor.shape[axis]);
    view.shape[static_cast<std::size_t>(axis)] = tensor.shape[axis];
  }
  if (tensor.strides == nullptr) {
    set_row_major(view);
  } else {
    std::copy(tensor.strides, tensor.strides + tensor.ndim, view.strides.begin());
  }
  return view;
}

TensorView TensorView::of(std::span<const std::int32_t> values) { return view_of(values, DType::i32); }
TensorView TensorView::of(std::span<const std::int64_t> values) { return view_of(values, DType::i64); }

TensorView TensorView::slice(int axis, std::int64_t begin, std::int64_t end) const {
  check_axis("slice", *this, axis);
  FOVEA_CHECK(0 <= begin && begin <= end && end <= dim(axis), "TensorView::slice: [{}, {}) is not a range of axis {} with extent {}", begin,
              end, axis, dim(axis));
  TensorView view = *this;
  view.data = static_cast<char*>(data) + begin * stride(axis) * row_of(dtype).bits / 8;
  view.shape[static_cast<std::size_t>(axis)] = end - begin;
  return view;
}

TensorView TensorView::select(int axis, std::int64_t index) const {
  check_axis("select", *this, axis);
  FOVEA_CHECK(ndim > 1, "TensorView::select: the tensor has one axis; none would be left");
  FOVEA_CHECK(0 <= index && index < dim(axis), "TensorView::select: index {} of axis {} with extent {}", index, axis, dim(axis));
  TensorView view = slice(axis, index, index + 1);
  for (int i = axis; i + 1 < ndim; ++i) {
    view.shape[static_cast<std::size_t>(i)] = dim(i + 1);
    view.strides[static_cast<std::size_t>(i)] = stride(i + 1);
  }
  --view.ndim;
  view.shape[static_cast<std::size_t>(view.ndim)] = 0;
  view.strides[static_cast<std::size_t>(view.ndim)] = 0;
  return view;
}

TensorView TensorView::permute(std::initializer_list<int> axes) const {
  FOVEA_CHECK(static_cast<int>(axes.size()) == ndim, "TensorView::permute: {} axes given for a tensor with {}", axes.size(), ndim);
  TensorView view = *this;
  unsigned seen = 0;
  int to = 0;
  for (const int from : axes) {
    check_axis("permute", *this, from);
    FOVEA_CHECK((seen >> from & 1u) == 0, "TensorView::permute: axis {} is given twice", from);
    seen |= 1u << from;
    view.shape[static_cast<std::size_t>(to)] = dim(from);
    view.strides[static_cast<std::size_t>(to)] = stride(from);
    ++to;
  }
  return view;
}

std::string TensorView::to_string() const {
  if (!defined()) {
    return "not given";
  }
  std::string extents, steps;
  for (int axis = 0; axis < ndim; ++axis) {
    fmt::format_to(std::back_inserter(extents), "{}{}", axis > 0 ? ", " : "", dim(axis));
    fmt::format_to(std::back_inserter(steps), "{}{}", axis > 0 ? ", " : "", stride(axis));
  }
  return fmt::format("{}[{}] strides [{}] on {}", name_of(dtype), extents, steps, device.to_string());
}

}  // namespace fovea
