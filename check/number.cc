#include "check/number.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace fovea::check {
namespace {

struct Layout {
  int mantissa_bits, exponent_bits, bias;
  bool has_infinity;  // e4m3 has none: all exponents are finite, and only the all-ones pattern is NaN
};

Layout layout_of(DType dtype) {
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

int bytes_each(DType dtype) { return row_of(dtype).bits / 8; }

int lowest_exponent(const Layout& l) { return 1 - l.bias; }

}  // namespace

double decode(DType dtype, const void* memory, std::int64_t index) {
  const Layout l = layout_of(dtype);
  std::uint32_t bits = 0;
  std::memcpy(&bits, static_cast<const char*>(memory) + index * bytes_each(dtype), static_cast<std::size_t>(bytes_each(dtype)));
  const std::uint32_t mantissa = bits & ((1u << l.mantissa_bits) - 1);
  const std::uint32_t top = (1u << l.exponent_bits) - 1;
  const std::uint32_t exponent = (bits >> l.mantissa_bits) & top;
  const double sign = ((bits >> (l.mantissa_bits + l.exponent_bits)) & 1) != 0 ? -1.0 : 1.0;
  if (exponent == top && l.has_infinity) {
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == top && mantissa == (1u << l.mantissa_bits) - 1) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) {
    return sign * std::ldexp(mantissa, lowest_exponent(l) - l.mantissa_bits);
  }
  return sign * std::ldexp(mantissa + (1u << l.mantissa_bits), static_cast<int>(exponent) - l.bias - l.mantissa_bits);
}

double largest(DType dtype) {
  const Layout l = layout_of(dtype);
  const int exponent = (1 << l.exponent_bits) - 1 - l.bias - (l.has_infinity ? 1 : 0);
  const double mantissa = 2.0 - std::ldexp(l.has_infinity ? 1.0 : 2.0, -l.mantissa_bits);
  return std::ldexp(mantissa, exponent);
}

double ulp_at(DType dtype, double value) {
  const Layout l = layout_of(dtype);
  int exponent = 0;
  std::frexp(value, &exponent);  // value in [2^(exponent - 1), 2^exponent)
  return std::ldexp(1.0, std::max(value == 0 ? lowest_exponent(l) : exponent - 1, lowest_exponent(l)) - l.mantissa_bits);
}

double round_to(DType dtype, double value) {
  if (!std::isfinite(value)) {
    return value;
  }
  const double step = ulp_at(dtype, value);
  const double rounded = std::nearbyint(value / step) * step;
  if (std::fabs(rounded) > largest(dtype)) {
    const double limit = row_of(dtype).bits == 8 ? largest(dtype) : std::numeric_limits<double>::infinity();
    return std::copysign(limit, value);
  }
  return rounded;
}

void encode(DType dtype, void* memory, std::int64_t index, double value) {
  const Layout l = layout_of(dtype);
  const double rounded = round_to(dtype, value);
  const double magnitude = std::fabs(rounded);
  const std::uint32_t top = (1u << l.exponent_bits) - 1;
  std::uint32_t bits = 0;
  if (std::isnan(rounded)) {
    bits = (top << l.mantissa_bits) | ((1u << l.mantissa_bits) - 1);
  } else if (std::isinf(rounded)) {
    bits = top << l.mantissa_bits;
  } else {
    const double step = ulp_at(dtype, rounded);
    const auto steps = static_cast<std::uint32_t>(magnitude / step);  // exact: at most mantissa_bits + 1 bits
    const int exponent = static_cast<int>(std::lround(std::log2(step))) + l.mantissa_bits + l.bias;
    bits = steps < (1u << l.mantissa_bits) ? steps
                                           : (static_cast<std::uint32_t>(exponent) << l.mantissa_bits) + (steps - (1u << l.mantissa_bits));
  }
  if (std::signbit(rounded)) {
    bits |= 1u << (l.mantissa_bits + l.exponent_bits);
  }
  std::memcpy(static_cast<char*>(memory) + index * bytes_each(dtype), &bits, static_cast<std::size_t>(bytes_each(dtype)));
}

}  // namespace fovea::check
