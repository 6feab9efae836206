// Scalar math for variants and kernels, on float and double. The float forms are branch-free, so that host compilers turn loops over them
// into full-width vector code. Error bounds are stated per function and tested against double.
#pragma once

#include "portable/compat.h"

namespace fovea::math {

inline constexpr float kLog2e = 1.44269504088896340736f;
inline constexpr float kLn2 = 0.69314718055994530942f;

template <class T>
FOVEA_FN constexpr T infinity() {
  return static_cast<T>(__builtin_bit_cast(float, 0x7f800000u));
}

FOVEA_FN float bits_to_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
FOVEA_FN uint32_t float_to_bits(float x) { return __builtin_bit_cast(uint32_t, x); }

FOVEA_FN double exp2(double x) { return FOVEA_DOUBLE_MATH(exp2)(x); }
FOVEA_FN double exp(double x) { return FOVEA_DOUBLE_MATH(exp)(x); }
FOVEA_FN double log2(double x) { return FOVEA_DOUBLE_MATH(log2)(x); }
FOVEA_FN double log(double x) { return FOVEA_DOUBLE_MATH(log)(x); }
FOVEA_FN double floor(double x) { return FOVEA_DOUBLE_MATH(floor)(x); }
/// Sine and cosine of a number of turns.
FOVEA_FN double sin_turns(double t) { return FOVEA_DOUBLE_MATH(sin)(t * 6.283185307179586477); }
FOVEA_FN double cos_turns(double t) { return FOVEA_DOUBLE_MATH(cos)(t * 6.283185307179586477); }
FOVEA_FN double tanh(double x) { return FOVEA_DOUBLE_MATH(tanh)(x); }

/// 2^x. At most 2 ulp for x in [-126, 128); 0 below -126 (so for -inf), +inf from 128 on. NaN stays NaN.
FOVEA_FN float exp2(float x) {
#if defined(FOVEA_HARDWARE_EXP2)
  float y;  // HW: 2 ulp; results below 2^-126 are 0
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  const float clamped = min_(max_(x, -127.0f), 128.0f);  // NaN falls through max_ and min_: comparisons with it are false
  // Round to nearest by adding 1.5 * 2^23: the integer part lands in the low mantissa bits.
  const float shifted = clamped + 12582912.0f;
  const float whole = shifted - 12582912.0f;
  const float f = clamped - whole;  // [-0.5, 0.5]
  // Minimax polynomial of 2^f on [-0.5, 0.5], degree 6.
  float y = 1.535336188319500e-4f;
  y = y * f + 1.339887440266574e-3f;
  y = y * f + 9.618437357674640e-3f;
  y = y * f + 5.550332471162809e-2f;
  y = y * f + 2.402264791363012e-1f;
  y = y * f + 6.931472028550421e-1f;
  y = y * f + 1.0f;
  const int32_t n = static_cast<int32_t>(float_to_bits(shifted)) - 0x4b400000;  // whole, as an integer
  // Scale by 2^n in two steps, so that n = 128 reaches infinity and n = -127 reaches zero by the second factor.
  const int32_t half = n >> 1;
  const float a = bits_to_float(static_cast<uint32_t>(half + 127) << 23);
  const float b = bits_to_float(static_cast<uint32_t>(n - half + 127) << 23);
  const float scaled = y * a * b;
  return x < -126.0f ? 0.0f : scaled;
#endif
}

/// e^x. Relative error at most (2 + |x|) 2^-23 where the result is a normal float; beyond as exp2.
FOVEA_FN float exp(float x) { return exp2(x * kLog2e); }

/// log2(x). At most 3 ulp or 1.2e-7 absolute for x > 0; -inf for 0, +inf for +inf. NaN stays NaN, and below 0 becomes it.
FOVEA_FN float log2(float x) {
  const bool subnormal = x < 1.17549435e-38f;
  const uint32_t bits = float_to_bits(subnormal ? x * 16777216.0f : x);
  // Mantissa in [sqrt(1/2), sqrt(2)).
  const uint32_t offset = bits - 0x3f3504f3u;
  const int32_t exponent = static_cast<int32_t>(offset) >> 23;
  const float m = bits_to_float((offset & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  // log(1 + m) = 2 atanh(s), s = m / (2 + m): an odd series, fast on |s| < 0.1716.
  const float s = m / (2.0f + m);
  const float s2 = s * s;
  float y = 0.2222222222f;
  y = y * s2 + 0.2857142857f;
  y = y * s2 + 0.4f;
  y = y * s2 + 0.6666666667f;
  const float ln = s * (2.0f + y * s2);
  const float result = ln * kLog2e + static_cast<float>(subnormal ? exponent - 24 : exponent);
  const float outside = x == 0.0f ? -infinity<float>() : (x > 0.0f ? x : bits_to_float(0x7fc00000u));
  return x > 0.0f && x < infinity<float>() ? result : outside;
}

/// log(x). At most 3 ulp or 1.2e-7 absolute for x > 0; else as log2.
FOVEA_FN float log(float x) { return log2(x) * kLn2; }

/// tanh(x). At most 4 ulp; +-1 for large |x|.
FOVEA_FN float tanh(float x) {
  const float a = x < 0.0f ? -x : x;
  const float e = exp2(a * (-2.0f * kLog2e));
  const float large = (1.0f - e) / (1.0f + e);
  // Near zero 1 - e cancels: odd series instead.
  const float x2 = x * x;
  float y = -5.70498872745e-3f;
  y = y * x2 + 2.06390887954e-2f;
  y = y * x2 - 5.37397155531e-2f;
  y = y * x2 + 1.33314422036e-1f;
  y = y * x2 - 3.33332819422e-1f;
  const float small = x + x * x2 * y;
  const float wide = x < 0.0f ? -large : large;
  return a < 0.625f ? small : wide;
}

/// Sine of t turns, |t| <= 1/2. Off by at most 2^-22.
FOVEA_FN float sin_turns(float t) {
  // The outer quarters fold onto the inner ones; the subtraction is exact.
  const float upper = t > 0.25f ? 0.5f - t : t;
  const float x = (t < -0.25f ? -0.5f - t : upper) * 6.2831853071795865f;
  const float x2 = x * x;
  // Taylor series on [-pi/2, pi/2]; its first missing term is below 6e-8.
  float y = -2.50521083854e-8f;
  y = y * x2 + 2.75573192240e-6f;
  y = y * x2 - 1.98412698413e-4f;
  y = y * x2 + 8.33333333333e-3f;
  y = y * x2 - 1.66666666667e-1f;
  return x + x * x2 * y;
}

/// Cosine of t turns, |t| <= 1/2. Off by at most 2^-22.
FOVEA_FN float cos_turns(float t) { return sin_turns(0.25f - (t < 0.0f ? -t : t)); }

}  // namespace fovea::math
