// Element conversion until portable/convert.h is there.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "fovea/dtype.h"
#include "portable/compat.h"

namespace fovea {

struct NumberLayout {
  int mantissa_bits, exponent_bits, bias;
  bool has_infinity;
};

inline NumberLayout layout_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return {10, 5, 15, true};
    case DType::bf16:
      return {7, 8, 127, true};
    case DType::e4m3:
      return {3, 4, 7, false};
    case DType::e5m2:
      return {2, 5, 15, true};
    default:
      return {23, 8, 127, true};
  }
}

inline float to_float(DType dtype, const void* memory, int64_t index) {
  const NumberLayout l = layout_of(dtype);
  uint32_t bits = 0;
  std::memcpy(&bits, static_cast<const char*>(memory) + bytes_of(dtype, index), static_cast<std::size_t>(bytes_of(dtype, 1)));
  const uint32_t mantissa = bits & ((1u << l.mantissa_bits) - 1);
  const uint32_t top = (1u << l.exponent_bits) - 1;
  const uint32_t exponent = (bits >> l.mantissa_bits) & top;
  const float sign = ((bits >> (l.mantissa_bits + l.exponent_bits)) & 1) != 0 ? -1.0f : 1.0f;
  if (exponent == top && l.has_infinity) {
    return mantissa != 0 ? std::numeric_limits<float>::quiet_NaN() : sign * std::numeric_limits<float>::infinity();
  }
  if (exponent == top && mantissa == (1u << l.mantissa_bits) - 1) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  if (exponent == 0) {
    return sign * std::ldexp(static_cast<float>(mantissa), 1 - l.bias - l.mantissa_bits);
  }
  return sign * std::ldexp(static_cast<float>(mantissa + (1u << l.mantissa_bits)), static_cast<int>(exponent) - l.bias - l.mantissa_bits);
}

inline float max_finite(DType dtype) {
  const NumberLayout l = layout_of(dtype);
  return static_cast<float>(std::ldexp(2.0 - std::ldexp(l.has_infinity ? 1.0 : 2.0, -l.mantissa_bits),
                                       (1 << l.exponent_bits) - 1 - l.bias - (l.has_infinity ? 1 : 0)));
}

inline void from_float(DType dtype, void* memory, int64_t index, float value) {
  const NumberLayout l = layout_of(dtype);
  const uint32_t top = (1u << l.exponent_bits) - 1;
  const double magnitude = std::fabs(static_cast<double>(value));
  uint32_t bits;
  if (std::isnan(value)) {
    bits = (top << l.mantissa_bits) | ((1u << l.mantissa_bits) - 1);
  } else {
    int exponent = 0;
    std::frexp(magnitude, &exponent);
    const int floor = std::max(magnitude == 0 ? 1 - l.bias : exponent - 1, 1 - l.bias);
    double rounded = std::nearbyint(std::ldexp(magnitude, l.mantissa_bits - floor));
    const double limit = max_finite(dtype);
    if (std::ldexp(rounded, floor - l.mantissa_bits) > limit) {
      bits = bytes_of(dtype, 1) == 1 ? (l.has_infinity ? ((top - 1) << l.mantissa_bits) | ((1u << l.mantissa_bits) - 1)
                                                       : (top << l.mantissa_bits) | ((1u << l.mantissa_bits) - 2))
                                     : top << l.mantissa_bits;
    } else {
      const auto steps = static_cast<uint32_t>(rounded);
      bits = (static_cast<uint32_t>(floor + l.bias - 1) << l.mantissa_bits) + steps;
    }
  }
  if (std::signbit(value)) {
    bits |= 1u << (l.mantissa_bits + l.exponent_bits);
  }
  std::memcpy(static_cast<char*>(memory) + bytes_of(dtype, index), &bits, static_cast<std::size_t>(bytes_of(dtype, 1)));
}

}  // namespace fovea
