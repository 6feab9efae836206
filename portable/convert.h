// Load, store and convert one element of any float dtype: the scalar forms that every backend agrees with (fast paths are the backends').
// Rounding is to nearest, ties to even. Right whether or not subnormal floats are flushed to zero, except that f32 and bf16 have them too.
#pragma once

#include "fovea/dtype.h"
#include "portable/compat.h"
#include "portable/math.h"

namespace fovea {

/// A small float type as bits: sign, exponent, mantissa. `kIeee`: all exponent bits set means infinity or NaN; otherwise (e4m3) there is no
/// infinity and only all bits set is NaN. What lies beyond the largest finite value becomes infinity, or with `kSaturates` that value:
/// 8-bit caches saturate, because one infinity in a cache would spoil every later token.
template <int kExponentBits, int kMantissaBits, bool kIeee, bool kSaturates>
struct SmallFloat {
  static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
  static constexpr int kShift = 23 - kMantissaBits;
  static constexpr uint32_t kSign = 1u << (kExponentBits + kMantissaBits);
  static constexpr uint32_t kInfinity = ((1u << kExponentBits) - 1) << kMantissaBits;  // with kIeee
  static constexpr uint32_t kNan = kIeee ? kInfinity | (1u << (kMantissaBits - 1)) : kSign - 1;
  static constexpr uint32_t kMaxFinite = kIeee ? kInfinity - 1 : kSign - 2;

  FOVEA_FN static float to_float(uint32_t bits) {
    const uint32_t magnitude = bits & (kSign - 1);
    const uint32_t rebias = static_cast<uint32_t>(127 - kBias) << 23;
    const uint32_t shifted = magnitude << kShift;
    // Subnormals: give them the smallest normal exponent and take away the implicit one that this adds.
    const float implicit_one = math::bits_to_float(rebias + (1u << 23));
    const float subnormal = math::bits_to_float(shifted + rebias + (1u << 23)) - implicit_one;
    const float normal = math::bits_to_float(shifted + rebias);
    float value = (magnitude >> kMantissaBits) == 0 ? subnormal : normal;
    if (magnitude > kMaxFinite) {
      value = math::bits_to_float(kIeee && magnitude == kInfinity ? 0x7f800000u : 0x7fc00000u);
    }
    return math::bits_to_float(math::float_to_bits(value) | ((bits & kSign) != 0 ? 0x80000000u : 0u));
  }

  FOVEA_FN static uint32_t from_float(float x) {
    const uint32_t all = math::float_to_bits(x);
    const uint32_t a = all & 0x7fffffffu;
    const uint32_t sign = (all >> 31) != 0 ? kSign : 0u;
    if (a > 0x7f800000u) {
      return sign | kNan;
    }
    if (a == 0x7f800000u) {
      return sign | (kIeee ? kInfinity : kMaxFinite);
    }
    const uint32_t min_normal = static_cast<uint32_t>(128 - kBias) << 23;
    if (a < min_normal) {
      // The addition rounds: the last bit of `magic` is worth the smallest subnormal.
      const uint32_t magic = static_cast<uint32_t>(128 - kBias + kShift) << 23;
      return sign | (math::float_to_bits(math::bits_to_float(a) + math::bits_to_float(magic)) - magic);
    }
    const uint32_t rebiased = a - (static_cast<uint32_t>(127 - kBias) << 23);
    const uint32_t rounded = (rebiased + ((1u << (kShift - 1)) - 1) + ((rebiased >> kShift) & 1)) >> kShift;
    if (rounded > kMaxFinite) {
      return sign | (kSaturates ? kMaxFinite : kInfinity);
    }
    return sign | rounded;
  }
};

using Float16 = SmallFloat<5, 10, true, false>;
using Float8E4M3 = SmallFloat<4, 3, false, true>;
using Float8E5M2 = SmallFloat<5, 2, true, true>;

/// bf16 is the upper half of a float; NaN stays NaN.
struct BFloat16 {
  FOVEA_FN static float to_float(uint32_t bits) { return math::bits_to_float(bits << 16); }
  FOVEA_FN static uint32_t from_float(float x) {
    const uint32_t bits = math::float_to_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
      return (bits >> 16) | 0x40u;
    }
    return (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  }
};

/// The float next to x towards zero if x is no float, with its last bit set: rounding that to a type of at most 22 bits of mantissa gives
/// what rounding x itself would. Double to small types without rounding twice.
FOVEA_FN float round_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const double back = static_cast<double>(nearest);
  if (back == x || !(x == x)) {
    return nearest;
  }
  uint32_t bits = math::float_to_bits(nearest);
  const bool away_from_zero = x < 0.0 ? back < x : back > x;
  return math::bits_to_float((away_from_zero ? bits - 1 : bits) | 1u);
}

/// Element `index` of an array of a float dtype.
FOVEA_FN float to_float(DType dtype, const void* data, int64_t index) {
  switch (dtype) {
    case DType::f32:
      return static_cast<const float*>(data)[index];
    case DType::f16:
      return Float16::to_float(static_cast<const uint16_t*>(data)[index]);
    case DType::bf16:
      return BFloat16::to_float(static_cast<const uint16_t*>(data)[index]);
    case DType::e4m3:
      return Float8E4M3::to_float(static_cast<const uint8_t*>(data)[index]);
    case DType::e5m2:
      return Float8E5M2::to_float(static_cast<const uint8_t*>(data)[index]);
    default:
      return 0.0f;
  }
}

/// Exact: every float dtype is a subset of double.
FOVEA_FN double to_double(DType dtype, const void* data, int64_t index) { return static_cast<double>(to_float(dtype, data, index)); }

FOVEA_FN void from_float(DType dtype, void* data, int64_t index, float x) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[index] = x;
      break;
    case DType::f16:
      static_cast<uint16_t*>(data)[index] = static_cast<uint16_t>(Float16::from_float(x));
      break;
    case DType::bf16:
      static_cast<uint16_t*>(data)[index] = static_cast<uint16_t>(BFloat16::from_float(x));
      break;
    case DType::e4m3:
      static_cast<uint8_t*>(data)[index] = static_cast<uint8_t>(Float8E4M3::from_float(x));
      break;
    case DType::e5m2:
      static_cast<uint8_t*>(data)[index] = static_cast<uint8_t>(Float8E5M2::from_float(x));
      break;
    default:
      break;
  }
}

/// Rounds once, from the double.
FOVEA_FN void from_double(DType dtype, void* data, int64_t index, double x) {
  from_float(dtype, data, index, dtype == DType::f32 ? static_cast<float>(x) : round_to_odd(x));
}

/// Largest finite value.
FOVEA_FN constexpr float max_finite(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 65504.0f;
    case DType::e4m3:
      return 448.0f;
    case DType::e5m2:
      return 57344.0f;
    default:
      return 3.3895313892515355e38f;  // bf16's, which f32 holds too
  }
}

/// KvQuant::token: the scale a token's row is divided by when it is stored. The row's largest element becomes the dtype's largest number,
/// where the dtype has 8 bits; wider types hold any row as it is.
FOVEA_FN constexpr float scale_of_token(DType dtype, float largest_magnitude) {
  return row_of(dtype).bits == 8 && largest_magnitude > 0.0f ? largest_magnitude / max_finite(dtype) : 1.0f;
}

}  // namespace fovea
