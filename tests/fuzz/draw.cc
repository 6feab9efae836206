#include "tests/fuzz/draw.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fovea::fuzz {
namespace {

/// Bit layout of a floating-point type: sign, exponent, mantissa.
struct FloatForm {
  int exponent_bits, mantissa_bits;
};

FloatForm form_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return {5, 10};
    case DType::bf16:
      return {8, 7};
    case DType::e4m3:
      return {4, 3};
    case DType::e5m2:
      return {5, 2};
    default:
      return {8, 23};
  }
}

/// Bits of (1 + mantissa / 4) * 2^exponent with a sign: exact in every type we have.
std::uint32_t bits_of(DType dtype, bool negative, int exponent, int mantissa) {
  const FloatForm form = form_of(dtype);
  const int bias = (1 << (form.exponent_bits - 1)) - 1;
  const std::uint32_t sign = negative ? 1u << (form.exponent_bits + form.mantissa_bits) : 0u;
  return sign | static_cast<std::uint32_t>(exponent + bias) << form.mantissa_bits |
         static_cast<std::uint32_t>(mantissa) << (form.mantissa_bits - 2);
}

}  // namespace

void* Memory::take(std::int64_t num_bytes) {
  pieces_.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(num_bytes)));
  return pieces_.back().get();
}

TensorView Memory::integers(const std::vector<std::int32_t>& values) {
  auto* place = static_cast<std::int32_t*>(take(static_cast<std::int64_t>(values.size()) * 4));
  std::copy(values.begin(), values.end(), place);
  return TensorView::contiguous(place, DType::i32, {static_cast<std::int64_t>(values.size())});
}

void fill(const TensorView& tensor, std::int64_t count, std::uint32_t seed) {
  const int width = row_of(tensor.dtype).bits / 8;
  std::uint32_t state = seed * 2654435761u + 1;
  for (std::int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    const std::uint32_t r = state >> 24;
    const std::uint32_t bits = bits_of(tensor.dtype, (r & 1) != 0, -static_cast<int>((r >> 1) % 3), static_cast<int>((r >> 3) & 3));
    std::memcpy(static_cast<std::byte*>(tensor.data) + i * width, &bits, static_cast<std::size_t>(width));
  }
}

DType float_type(Bytes& bytes, bool with_8_bit) {
  return with_8_bit ? bytes.pick({DType::f32, DType::bf16, DType::f16, DType::e4m3, DType::e5m2})
                    : bytes.pick({DType::f32, DType::bf16, DType::f16});
}

std::vector<std::int32_t> indptr(Bytes& bytes, int count, int low, int high) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count) + 1);
  for (std::size_t i = 1; i < values.size(); ++i) {
    const std::int32_t sum = values[i - 1] > (1 << 20) ? 0 : std::max(values[i - 1], 0);
    values[i] = bytes.or_anything(sum + bytes.between(low, high));
  }
  return values;
}

std::int32_t entries_for(Bytes& bytes, std::int32_t end) {
  const std::int32_t count = std::clamp(end, 0, 4096);
  return std::max(bytes.rarely() ? count - 1 : count, 0);
}

std::vector<std::int32_t> indices(Bytes& bytes, std::int32_t count, int below) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::int32_t& value : values) {
    value = bytes.or_anything(bytes.below(std::max(below, 1)));
  }
  return values;
}

double number_at(const TensorView& tensor, std::int64_t i) {
  const int width = row_of(tensor.dtype).bits / 8;
  std::uint32_t bits = 0;
  std::memcpy(&bits, static_cast<const std::byte*>(tensor.data) + i * width, static_cast<std::size_t>(width));
  const FloatForm form = form_of(tensor.dtype);
  const std::uint32_t mantissa = bits & ((1u << form.mantissa_bits) - 1);
  const int exponent = static_cast<int>(bits >> form.mantissa_bits & ((1u << form.exponent_bits) - 1));
  const int bias = (1 << (form.exponent_bits - 1)) - 1;
  const double sign = (bits >> (form.mantissa_bits + form.exponent_bits) & 1) != 0 ? -1.0 : 1.0;
  if (tensor.dtype == DType::e4m3 && (bits & 0x7f) == 0x7f) {
    return std::nan("");
  }
  if (tensor.dtype != DType::e4m3 && exponent == (1 << form.exponent_bits) - 1) {
    return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  }
  const double one = exponent == 0 ? 0.0 : 1.0;
  return sign * std::ldexp(one + std::ldexp(static_cast<double>(mantissa), -form.mantissa_bits), std::max(exponent, 1) - bias);
}

}  // namespace fovea::fuzz
