// The one vector type of this backend: kLanes floats, as AVX2 (8) or AVX-512 (16), chosen by the flags a file is compiled with. Loads and
// stores convert from and to the storage types. Everything lives in a namespace per instruction set, so that the two builds of a file never
// share a symbol; for the same reason these files use nothing of the standard library.
#pragma once

#include <immintrin.h>

#include "fovea/dtype.h"
#include "portable/compat.h"
#include "portable/math.h"

#ifndef FOVEA_CPU_ISA
#error "compile this file through fovea_cpu_isa() in backends/cpu/CMakeLists.txt, which defines FOVEA_CPU_ISA and the target's flags"
#endif

namespace fovea::cpu::FOVEA_CPU_ISA {

#if defined(__AVX512F__)
using Vec = __m512;
using IntVec = __m512i;
inline constexpr int kLanes = 16;
#else
using Vec = __m256;
using IntVec = __m256i;
inline constexpr int kLanes = 8;
#endif

/// Bytes of an element.
template <DType D>
inline constexpr int kBytes = row_of(D).bits / 8;

#if defined(__AVX512F__)

FOVEA_FN Vec zero() { return _mm512_setzero_ps(); }
FOVEA_FN Vec broadcast(float x) { return _mm512_set1_ps(x); }
FOVEA_FN Vec load(const float* p) { return _mm512_loadu_ps(p); }
FOVEA_FN void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
FOVEA_FN Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
FOVEA_FN Vec subtract(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
FOVEA_FN Vec multiply(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
FOVEA_FN Vec multiply_add(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
FOVEA_FN Vec maximum(Vec a, Vec b) { return _mm512_max_ps(a, b); }  // b where either is NaN

/// First `count` lanes from memory, the others zero; 0 <= count <= kLanes.
FOVEA_FN Vec load_first(const float* p, int count) { return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p); }
FOVEA_FN void store_first(float* p, Vec v, int count) { _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v); }

FOVEA_FN __m128 sum_of_quarters(Vec v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
FOVEA_FN Vec unpack_low(Vec a, Vec b) { return _mm512_unpacklo_ps(a, b); }
FOVEA_FN Vec unpack_high(Vec a, Vec b) { return _mm512_unpackhi_ps(a, b); }
FOVEA_FN Vec unpack_low_pairs(Vec a, Vec b) { return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }
FOVEA_FN Vec unpack_high_pairs(Vec a, Vec b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); }

FOVEA_FN float reduce_max(Vec v) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  quarter = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
}

/// e^x for x <= 0 (or NaN, which stays). At most 2 ulp while e^x > 1e-5, and 1e-7 * |x| of it below; 0 from -104 down.
FOVEA_FN Vec exp(Vec x) {
  const Vec log2e = _mm512_set1_ps(math::kLog2e);
  const Vec clamped = _mm512_max_ps(_mm512_set1_ps(-140.0f), x);  // NaN is the second operand: it stays
  const Vec whole = _mm512_roundscale_ps(_mm512_mul_ps(clamped, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vec f = _mm512_fmsub_ps(clamped, log2e, whole);  // fused: the product isn't rounded before the whole part is taken off
  Vec y = _mm512_set1_ps(1.535336188319500e-4f);
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.339887440266574e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(9.618437357674640e-3f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(5.550332471162809e-2f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(2.402264791363012e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(6.931472028550421e-1f));
  y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, whole);
}

FOVEA_FN Vec from_half(__m256i h) { return _mm512_cvtph_ps(h); }
FOVEA_FN Vec from_bf16(__m256i b) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16)); }
/// e4m3 has the exponent range of no wider type, but its bits shifted are an f16 2^-8 times too small; f16 conversion is exact and takes
/// subnormals.
FOVEA_FN Vec from_e4m3(__m128i b) {
  const __m256i wide = _mm256_cvtepu8_epi16(b);
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x80)), 8);
  const __m256i rest = _mm256_slli_epi16(_mm256_and_si256(wide, _mm256_set1_epi16(0x7f)), 7);
  const Vec value = _mm512_mul_ps(from_half(_mm256_or_si256(sign, rest)), _mm512_set1_ps(256.0f));
  const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_abs_ps(value), _mm512_set1_ps(480.0f), _CMP_EQ_OQ);  // the code after 448 is NaN
  return _mm512_mask_mov_ps(value, nan, _mm512_set1_ps(__builtin_nanf("")));
}
FOVEA_FN Vec from_e5m2(__m128i b) { return from_half(_mm256_slli_epi16(_mm256_cvtepu8_epi16(b), 8)); }

/// kLanes adjacent elements as floats.
template <DType D>
FOVEA_FN Vec load_as(const void* p) {
  if constexpr (D == DType::f32) {
    return _mm512_loadu_ps(p);
  } else if constexpr (D == DType::f16) {
    return from_half(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  } else if constexpr (D == DType::bf16) {
    return from_bf16(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  } else if constexpr (D == DType::e4m3) {
    return from_e4m3(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  } else {
    static_assert(D == DType::e5m2, "a float dtype without a load: add it here and in load_first_as");
    return from_e5m2(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
}

/// The first `count` elements, the other lanes zero; reads no more.
template <DType D>
FOVEA_FN Vec load_first_as(const void* p, int count) {
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (D == DType::f32) {
    return _mm512_maskz_loadu_ps(mask, p);
  } else if constexpr (D == DType::f16) {
    return from_half(_mm256_maskz_loadu_epi16(mask, p));
  } else if constexpr (D == DType::bf16) {
    return from_bf16(_mm256_maskz_loadu_epi16(mask, p));
  } else if constexpr (D == DType::e4m3) {
    return from_e4m3(_mm_maskz_loadu_epi8(mask, p));
  } else {
    return from_e5m2(_mm_maskz_loadu_epi8(mask, p));
  }
}

/// Round to nearest even; NaN stays NaN.
FOVEA_FN __m256i to_bf16(Vec v) {
  const IntVec bits = _mm512_castps_si512(v);
  const IntVec lsb = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const IntVec rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(lsb, _mm512_set1_epi32(0x7fff))), 16);
  const IntVec nan = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), nan));
}
FOVEA_FN __m256i to_half(Vec v) { return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

template <DType D>
FOVEA_FN void store_first_as(void* p, Vec v, int count) {
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (D == DType::f32) {
    _mm512_mask_storeu_ps(p, mask, v);
  } else if constexpr (D == DType::f16) {
    _mm256_mask_storeu_epi16(p, mask, to_half(v));
  } else {
    static_assert(D == DType::bf16, "outputs are f32, f16 or bf16");
    _mm256_mask_storeu_epi16(p, mask, to_bf16(v));
  }
}

#else  // AVX2

FOVEA_FN Vec zero() { return _mm256_setzero_ps(); }
FOVEA_FN Vec broadcast(float x) { return _mm256_set1_ps(x); }
FOVEA_FN Vec load(const float* p) { return _mm256_loadu_ps(p); }
FOVEA_FN void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
FOVEA_FN Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
FOVEA_FN Vec subtract(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
FOVEA_FN Vec multiply(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
FOVEA_FN Vec multiply_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
FOVEA_FN Vec maximum(Vec a, Vec b) { return _mm256_max_ps(a, b); }  // b where either is NaN

FOVEA_FN __m256i first_lanes(int count) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
/// First `count` lanes from memory, the others zero; 0 <= count <= kLanes.
FOVEA_FN Vec load_first(const float* p, int count) { return _mm256_maskload_ps(p, first_lanes(count)); }
FOVEA_FN void store_first(float* p, Vec v, int count) { _mm256_maskstore_ps(p, first_lanes(count), v); }

FOVEA_FN __m128 sum_of_quarters(Vec v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); }
FOVEA_FN Vec unpack_low(Vec a, Vec b) { return _mm256_unpacklo_ps(a, b); }
FOVEA_FN Vec unpack_high(Vec a, Vec b) { return _mm256_unpackhi_ps(a, b); }
FOVEA_FN Vec unpack_low_pairs(Vec a, Vec b) { return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }
FOVEA_FN Vec unpack_high_pairs(Vec a, Vec b) { return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b))); }

FOVEA_FN float reduce_max(Vec v) {
  __m128 quarter = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  quarter = _mm_max_ps(quarter, _mm_movehl_ps(quarter, quarter));
  return _mm_cvtss_f32(_mm_max_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
}

/// e^x for x <= 0 (or NaN, which stays). At most 2 ulp while e^x > 1e-5, and 1e-7 * |x| of it below; 0 from -87 down.
FOVEA_FN Vec exp(Vec x) {
  const Vec log2e = _mm256_set1_ps(math::kLog2e);
  const Vec lowest = _mm256_set1_ps(-87.0f);
  const Vec clamped = _mm256_max_ps(lowest, x);  // NaN is the second operand: it stays
  const Vec whole = _mm256_round_ps(_mm256_mul_ps(clamped, log2e), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const Vec f = _mm256_fmsub_ps(clamped, log2e, whole);  // fused: the product isn't rounded before the whole part is taken off
  Vec y = _mm256_set1_ps(1.535336188319500e-4f);
  y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(1.339887440266574e-3f));
  y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(9.618437357674640e-3f));
  y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(5.550332471162809e-2f));
  y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(2.402264791363012e-1f));
  y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(6.931472028550421e-1f));
  y = _mm256_fmadd_ps(y, f, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
  const Vec scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), exponent));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, lowest, _CMP_LT_OQ), scaled);
}

FOVEA_FN Vec from_half(__m128i h) { return _mm256_cvtph_ps(h); }
FOVEA_FN Vec from_bf16(__m128i b) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(b), 16)); }
/// e4m3 has the exponent range of no wider type, but its bits shifted are an f16 2^-8 times too small; f16 conversion is exact and takes
/// subnormals.
FOVEA_FN Vec from_e4m3(__m128i b) {
  const __m128i wide = _mm_cvtepu8_epi16(b);
  const __m128i sign = _mm_slli_epi16(_mm_and_si128(wide, _mm_set1_epi16(0x80)), 8);
  const __m128i rest = _mm_slli_epi16(_mm_and_si128(wide, _mm_set1_epi16(0x7f)), 7);
  const Vec value = _mm256_mul_ps(from_half(_mm_or_si128(sign, rest)), _mm256_set1_ps(256.0f));
  const Vec magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), value);
  const Vec nan = _mm256_cmp_ps(magnitude, _mm256_set1_ps(480.0f), _CMP_EQ_OQ);  // the code after 448 is NaN
  return _mm256_blendv_ps(value, _mm256_set1_ps(__builtin_nanf("")), nan);
}
FOVEA_FN Vec from_e5m2(__m128i b) { return from_half(_mm_slli_epi16(_mm_cvtepu8_epi16(b), 8)); }

/// kLanes adjacent elements as floats.
template <DType D>
FOVEA_FN Vec load_as(const void* p) {
  if constexpr (D == DType::f32) {
    return _mm256_loadu_ps(static_cast<const float*>(p));
  } else if constexpr (D == DType::f16) {
    return from_half(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  } else if constexpr (D == DType::bf16) {
    return from_bf16(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  } else if constexpr (D == DType::e4m3) {
    return from_e4m3(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  } else {
    static_assert(D == DType::e5m2, "a float dtype without a load: add it here and in load_first_as");
    return from_e5m2(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  }
}

/// The first `count` elements, the other lanes zero; reads no more.
template <DType D>
FOVEA_FN Vec load_first_as(const void* p, int count) {
  if constexpr (D == DType::f32) {
    return load_first(static_cast<const float*>(p), count);
  } else {
    alignas(32) unsigned char padded[kLanes * 4] = {};
    for (int i = 0; i < count * kBytes<D>; ++i) {
      padded[i] = static_cast<const unsigned char*>(p)[i];
    }
    return load_as<D>(padded);
  }
}

/// Round to nearest even; NaN stays NaN.
FOVEA_FN __m128i to_bf16(Vec v) {
  const IntVec bits = _mm256_castps_si256(v);
  const IntVec lsb = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const IntVec rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(lsb, _mm256_set1_epi32(0x7fff))), 16);
  const IntVec nan = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const IntVec chosen = _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
  const IntVec packed = _mm256_packus_epi32(chosen, chosen);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0xd8));
}
FOVEA_FN __m128i to_half(Vec v) { return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

template <DType D>
FOVEA_FN void store_first_as(void* p, Vec v, int count) {
  if constexpr (D == DType::f32) {
    store_first(static_cast<float*>(p), v, count);
  } else {
    static_assert(D == DType::f16 || D == DType::bf16, "outputs are f32, f16 or bf16");
    const __m128i narrow = D == DType::f16 ? to_half(v) : to_bf16(v);
    if (count == kLanes) {
      _mm_storeu_si128(static_cast<__m128i*>(p), narrow);
      return;
    }
    alignas(16) uint16_t lanes[kLanes];
    _mm_store_si128(reinterpret_cast<__m128i*>(lanes), narrow);
    for (int i = 0; i < count; ++i) {
      static_cast<uint16_t*>(p)[i] = lanes[i];
    }
  }
}

#endif

/// Sums of four vectors' lanes. Each is added up in the same order wherever it stands among the four.
FOVEA_FN __m128 reduce_add(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = add(unpack_low(a, b), unpack_high(a, b));
  const Vec cd = add(unpack_low(c, d), unpack_high(c, d));
  return sum_of_quarters(add(unpack_low_pairs(ab, cd), unpack_high_pairs(ab, cd)));
}
FOVEA_FN float reduce_add(Vec v) { return _mm_cvtss_f32(reduce_add(v, v, v, v)); }

FOVEA_FN float first_lane(Vec v) {
#if defined(__AVX512F__)
  return _mm512_cvtss_f32(v);
#else
  return _mm256_cvtss_f32(v);
#endif
}

/// Calls `f.template operator()<D>()` for the run-time float dtype: outside every inner loop.
template <class F>
FOVEA_FN void with_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      f.template operator()<DType::f32>();
      break;
    case DType::f16:
      f.template operator()<DType::f16>();
      break;
    case DType::bf16:
      f.template operator()<DType::bf16>();
      break;
    case DType::e4m3:
      f.template operator()<DType::e4m3>();
      break;
    case DType::e5m2:
      f.template operator()<DType::e5m2>();
      break;
    default:
      break;  // integers: refused in problem/
  }
}

template <class F>
FOVEA_FN void with_output_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      f.template operator()<DType::f32>();
      break;
    case DType::f16:
      f.template operator()<DType::f16>();
      break;
    default:
      f.template operator()<DType::bf16>();
      break;
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
