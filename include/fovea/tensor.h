// TensorView: a tensor somebody else owns. Made from DLPack, from a span, or from a pointer with shape and strides.
#pragma once

#include <dlpack/dlpack.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "fovea/dtype.h"

namespace fovea {

enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  std::int32_t id = 0;

  friend bool operator==(const Device&, const Device&) = default;
  std::string to_string() const;  // "cpu", "cuda:0"
};

/// Non-owning view: data, dtype, device, shape and strides (both in elements). The memory must outlive every call it is given to.
/// A default-constructed view is "not given" (`defined()` is false); a tensor with a zero in its shape is given, and empty.
struct TensorView {
  static constexpr int kMaxDims = 6;

  void* data = nullptr;
  DType dtype = DType::f32;
  Device device;
  std::int32_t ndim = 0;
  std::array<std::int64_t, kMaxDims> shape{};
  std::array<std::int64_t, kMaxDims> strides{};

  bool defined() const { return ndim > 0; }
  std::int64_t numel() const;
  std::int64_t dim(int axis) const { return shape[static_cast<std::size_t>(axis)]; }
  std::int64_t stride(int axis) const { return strides[static_cast<std::size_t>(axis)]; }
  bool is_contiguous() const;
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  /// Row-major view of `data`.
  static TensorView contiguous(void* data, DType dtype, std::initializer_list<std::int64_t> shape, Device device = {});
  static TensorView strided(void* data, DType dtype, std::initializer_list<std::int64_t> shape, std::initializer_list<std::int64_t> strides,
                            Device device = {});
  /// Borrows a DLPack tensor (byte_offset is applied). Throws InvalidArgument for a dtype, lane count, rank or device fovea has no row for.
  static TensorView from_dlpack(const DLTensor& tensor);

  /// One-dimensional views of host integers. The library never writes through them.
  static TensorView of(std::span<const std::int32_t> values);
  static TensorView of(std::span<const std::int64_t> values);

  // Views of the same memory. All throw InvalidArgument when axis or range are out of bounds.
  TensorView slice(int axis, std::int64_t begin, std::int64_t end) const;  // [begin, end) of one axis
  TensorView select(int axis, std::int64_t index) const;                   // drops the axis
  TensorView permute(std::initializer_list<int> axes) const;

  std::string to_string() const;  // "bf16[64, 8, 128] strides [1024, 128, 1] on cpu"
};

}  // namespace fovea
