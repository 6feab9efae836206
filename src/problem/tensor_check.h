// Checks that every tensor argument has in common: given, dtype, rank, extent, device, strides, memory. Nothing here allocates unless it
// throws.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "fovea/tensor.h"
#include "src/support/check.h"

namespace fovea {

/// How a message names an argument: "q", "kv[1].page_indptr". Only formatted when a check fails.
struct Argument {
  std::string_view where;  // "plan", "run", ...
  std::string_view owner;  // "kv", "states", or empty
  int index = -1;          // of the owner; -1: it has none
  std::string_view field;
  Argument of(std::string_view name) const { return {where, owner, index, name}; }
};

/// Bytes a tensor spans, whichever way its strides run; begin == end where it is empty.
struct MemoryRange {
  std::uintptr_t begin = 0, end = 0;
  bool overlaps(const MemoryRange& other) const { return begin < other.end && other.begin < end; }
};

/// Defined, `rank` axes, no negative extent, aligned memory behind it, offsets within 62 bits, on `device`. `shape` says what the axes are,
/// for the message.
void check_tensor(const Argument& name, const TensorView& tensor, int rank, std::string_view shape, Device device);
void check_dtype(const Argument& name, const TensorView& tensor, DType dtype);
/// One of f32, f16 and bf16: what new keys, outputs and states may have.
void check_wide_dtype(const Argument& name, const TensorView& tensor);
void check_innermost(const Argument& name, const TensorView& tensor);

/// A contiguous vector of `dtype` with exactly `count` entries.
void check_vector(const Argument& name, const TensorView& tensor, DType dtype, std::int64_t count, Device device);
/// The same with any number of entries.
void check_any_vector(const Argument& name, const TensorView& tensor, DType dtype, Device device);

MemoryRange memory_range(const TensorView& tensor);
/// The same elements of the same memory.
bool same_view(const TensorView& a, const TensorView& b);
void check_apart(const Argument& a, const TensorView& tensor_a, const Argument& b, const TensorView& tensor_b);
/// No two elements of an output share memory, as they would with a stride of 0. Innermost stride 1.
void check_writable(const Argument& name, const TensorView& tensor);

/// indptr[0] == 0 and no entry is less than the one before; `count` intervals.
void check_indptr(const Argument& name, const std::int32_t* indptr, std::int32_t count);

}  // namespace fovea

template <>
struct fmt::formatter<fovea::Argument> : fmt::formatter<std::string_view> {
  template <class Context>
  auto format(const fovea::Argument& name, Context& context) const {
    if (name.owner.empty()) {
      return fmt::format_to(context.out(), "{}", name.field);
    }
    if (name.index < 0) {
      return fmt::format_to(context.out(), "{}.{}", name.owner, name.field);
    }
    return fmt::format_to(context.out(), "{}[{}].{}", name.owner, name.index, name.field);
  }
};
