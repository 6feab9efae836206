// Pairs of small floats: float to 16 bits, 8 bits to 16 bits. The lower half of a pair is its first element.
#pragma once

#include "fovea/dtype.h"
#include "portable/compat.h"

namespace fovea::ptx {

/// Two floats as a pair of T (f16 or bf16), rounded to nearest even.
template <DType T>
__device__ __forceinline__ uint32_t pack_pair(float first, float second) {
  uint32_t pair;
  if constexpr (T == DType::f16) {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  }
  return pair;
}

/// A pair of e4m3 (in the lower 16 bits) as a pair of f16, without the instruction that sm_89 brought.
__device__ __forceinline__ uint32_t widen_e4m3_by_hand(uint32_t pair) {
  // The exponent moves from bias 7 to bias 15 by a product with 2^8.
  const uint32_t spread = __byte_perm(pair, 0, 0x1404);
  const uint32_t bits = (spread & 0x80008000u) | ((spread & 0x7f007f00u) >> 1);
  uint32_t wide, nan;
  asm("mul.f16x2 %0, %1, %2;" : "=r"(wide) : "r"(bits), "r"(0x5c005c00u));
  // The code after 448 is NaN; it came out as 480.
  asm("set.eq.u32.f16x2 %0, %1, %2;" : "=r"(nan) : "r"(wide & 0x7fff7fffu), "r"(0x5f805f80u));
  return wide | nan;
}

/// A pair of e4m3 or e5m2 (in the lower 16 bits) as a pair of f16. Exact: f16 holds every value of both.
template <DType From>
__device__ __forceinline__ uint32_t widen_to_f16(uint32_t pair) {
  static_assert(From == DType::e4m3 || From == DType::e5m2, "8-bit floats are e4m3 or e5m2");
  if constexpr (From == DType::e5m2) {
    return __byte_perm(pair, 0, 0x1404);  // e5m2 is the upper half of an f16
  } else {
#if __CUDA_ARCH__ >= 890
    uint32_t wide;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(wide) : "h"(static_cast<uint16_t>(pair)));
    return wide;
#else
    return widen_e4m3_by_hand(pair);
#endif
  }
}

__device__ __forceinline__ float f16_to_float(uint32_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<uint16_t>(bits)));
  return value;
}

/// A pair of 8-bit floats as a pair of T. Exact.
template <DType From, DType T>
__device__ __forceinline__ uint32_t widen_pair(uint32_t pair) {
  const uint32_t wide = widen_to_f16<From>(pair);
  if constexpr (T == DType::f16) {
    return wide;
  } else {
    return pack_pair<DType::bf16>(f16_to_float(wide), f16_to_float(wide >> 16));
  }
}

/// 1 / x, about 1 ulp.
__device__ __forceinline__ float reciprocal_approx(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// 2^x, about 2 ulp; 0 for -inf.
__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace fovea::ptx
