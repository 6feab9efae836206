// How the elements of a cache are multiplied. The products (dot.h, accumulate.h, panel.h) are written once, over words of 32 bits:
//   AsFloat<D>  a word is one element, converted as it is loaded; q and weights are float
//   AsPairs     a word is two bf16, multiplied by bf16 q or weights and summed in float: no conversion, and twice the products of an
//               instruction. Only where the instruction set has it (kHasPairs).
// Both give one chain of fused multiply-adds per element, in order: a row's bits never depend on how rows are grouped.
#pragma once

#include "backends/cpu/device/vector.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// Columns of a panel: a pair of vectors.
inline constexpr int kPanel = 2 * kLanes;

struct VecPair {
  Vec first, second;
};

template <DType D>
struct AsFloat {
  using Element = float;               // of q and of weights
  using Packed = AsFloat<DType::f32>;  // panels hold floats, whatever the cache does
  static constexpr DType kDType = D;
  static constexpr int kPerWord = 1;
  static constexpr int kStep = kLanes;  // elements of a vector of words

  FOVEA_FN static Vec load(const void* p) { return load_as<D>(p); }
  FOVEA_FN static Vec load_first(const void* p, int count) { return load_first_as<D>(p, count); }
  FOVEA_FN static Vec load_own(const Element* p) { return cpu::FOVEA_CPU_ISA::load(p); }
  FOVEA_FN static Vec broadcast_word(const Element* p) { return broadcast(*p); }
  FOVEA_FN static Vec multiply_add(Vec a, Vec b, Vec sum) { return cpu::FOVEA_CPU_ISA::multiply_add(a, b, sum); }

  /// kPanel elements of kPerWord V rows, the elements of one dimension in a word.
  FOVEA_FN static VecPair load_panel(const char* const (&rows)[kPerWord]) { return {load(rows[0]), load(rows[0] + kLanes * kBytes<D>)}; }
  FOVEA_FN static VecPair load_first_of_panel(const char* const (&rows)[kPerWord], int count) {
    if (count < kLanes) {
      return {load_first(rows[0], count), zero()};
    }
    return {load(rows[0]), load_first(rows[0] + kLanes * kBytes<D>, count - kLanes)};
  }
  /// A panel of sums in the order of dimensions.
  FOVEA_FN static VecPair in_order(VecPair sums) { return sums; }
};

#if defined(__AVX512BF16__)
inline constexpr bool kHasPairs = true;

struct AsPairs {
  using Element = uint16_t;
  using Packed = AsPairs;
  static constexpr DType kDType = DType::bf16;
  static constexpr int kPerWord = 2;
  static constexpr int kStep = 2 * kLanes;

  FOVEA_FN static Vec load(const void* p) { return _mm512_loadu_ps(p); }
  FOVEA_FN static Vec load_first(const void* p, int count) {
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << count) - 1), p));
  }
  FOVEA_FN static Vec load_own(const Element* p) { return load(p); }
  FOVEA_FN static Vec broadcast_word(const Element* p) {
    int32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return _mm512_castsi512_ps(_mm512_set1_epi32(word));
  }
  FOVEA_FN static Vec multiply_add(Vec a, Vec b, Vec sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
  }

  /// The instructions that pair two rows' elements work within 128 bits: a panel's sums are out of order until in_order().
  FOVEA_FN static VecPair pairs_of(Vec a, Vec b) {
    const IntVec x = _mm512_castps_si512(a), y = _mm512_castps_si512(b);
    return {_mm512_castsi512_ps(_mm512_unpacklo_epi16(x, y)), _mm512_castsi512_ps(_mm512_unpackhi_epi16(x, y))};
  }
  FOVEA_FN static VecPair load_panel(const char* const (&rows)[kPerWord]) { return pairs_of(load(rows[0]), load(rows[1])); }
  FOVEA_FN static VecPair load_first_of_panel(const char* const (&rows)[kPerWord], int count) {
    return pairs_of(load_first(rows[0], count), load_first(rows[1], count));
  }
  FOVEA_FN static VecPair in_order(VecPair sums) {
    const IntVec low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const IntVec high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    return {_mm512_permutex2var_ps(sums.first, low, sums.second), _mm512_permutex2var_ps(sums.first, high, sums.second)};
  }
};
#else
inline constexpr bool kHasPairs = false;
#endif

/// Weights as the arithmetic's elements, in place; a multiple of kPanel of them.
template <class A>
FOVEA_FN void narrow_weights([[maybe_unused]] float* weights, [[maybe_unused]] int count) {
#if defined(__AVX512BF16__)
  if constexpr (A::kPerWord == 2) {
    auto* narrow = reinterpret_cast<unsigned char*>(weights);
    for (int c = 0; c < count; c += kPanel, narrow += kPanel * sizeof(uint16_t)) {
      const __m512bh pairs = _mm512_cvtne2ps_pbh(load(weights + c + kLanes), load(weights + c));
      __builtin_memcpy(narrow, &pairs, sizeof pairs);
    }
  }
#endif
}

/// Calls `f.template operator()<A>()` for the arithmetic of a cache's dtype: outside every inner loop.
template <class F>
FOVEA_FN void with_arithmetic(DType dtype, [[maybe_unused]] bool as_pairs, F&& f) {
#if defined(__AVX512BF16__)
  if (as_pairs) {
    f.template operator()<AsPairs>();
    return;
  }
#endif
  with_dtype(dtype, [&]<DType D>() { f.template operator()<AsFloat<D>>(); });
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
