// Rotary position embedding of queries and keys: pairs of elements turn by an angle that grows with the position. Cosines and sines come
// from a table built as the model builds it, or are computed.
//
// Positions are those of the batch: of by_order formats a key's place in its request's tables. A cache that has dropped tokens in between
// (StreamingLLM, arXiv 2309.17453) therefore turns by places in the cache, as it must, when its tables list what is left.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct RopeParams {
  Table2D<float> cos_sin;         // [positions, n]: n / 2 cosines, then n / 2 sines. Positions past its end turn like the last
  int32_t rotary_dim = 0;         // without a table: n, the elements that turn, from the first on; 0: all
  float theta = 10000.0f;         // pair i turns by position * theta^(-2 i / n)
  float factor = 1.0f;            // slows all pairs down; with original_context only the slow ones, as in Llama 3.1
  float low_freq_factor = 1.0f;   // pairs with fewer turns than this in original_context are slowed down
  float high_freq_factor = 4.0f;  // those with more turns are not; between the two it is gradual
  int32_t original_context = 0;   // tokens; 0: all pairs are slowed down alike

  /// Turns of pair i a position. Double: at position 10^6 a float would be off by a sixteenth of a turn.
  FOVEA_FN double turns_per_position(int32_t i, int32_t n) const {
    const double turns = math::exp2(-2.0 * i / n * math::log2(double{theta})) / 6.283185307179586477;
    const double in_context = turns * original_context;
    const double span = double{high_freq_factor} - double{low_freq_factor};
    const double fast = original_context > 0 ? min_(1.0, max_(0.0, (in_context - double{low_freq_factor}) / span)) : 0.0;
    return turns * ((1.0 - fast) / double{factor} + fast);
  }
  FOVEA_FIELDS(RopeParams, FOVEA_OPTIONAL_TABLE(cos_sin, rotary), FOVEA_OPTIONAL_AT_LEAST(rotary_dim, 0), FOVEA_OPTIONAL(theta),
               FOVEA_OPTIONAL(factor), FOVEA_OPTIONAL(low_freq_factor), FOVEA_OPTIONAL(high_freq_factor),
               FOVEA_OPTIONAL_AT_LEAST(original_context, 0))
};

template <Pairing P>
struct RotaryEmbedding : VariantBase {
  using Params = RopeParams;
  static constexpr Pairing pairing = P;

  FOVEA_FN int32_t num_paired(int32_t head_dim) const {
    const int32_t given = p.rotary_dim > 0 ? p.rotary_dim : head_dim;
    return p.cos_sin.empty() ? given : p.cos_sin.cols;
  }
  template <class T>
  FOVEA_FN ElementPair<T> transform_query(ElementPair<T> x, Element e, const Position<>& at) const {
    return turned(x, e, at.q_pos);
  }
  template <class T>
  FOVEA_FN ElementPair<T> transform_key(ElementPair<T> x, Element e, const Position<>& at) const {
    return turned(x, e, at.kv_pos);
  }

  // Whole rows at once, for kernels in float: what all pairs have in common is computed once, and the loops become vector code.
  FOVEA_FN void transform_query_row(float* x, int32_t head_dim, const Position<>& at) const { turn_row(x, head_dim, at.q_pos); }
  FOVEA_FN void transform_key_row(float* x, int32_t head_dim, const Position<>& at) const { turn_row(x, head_dim, at.kv_pos); }

  Params p;

 private:
  FOVEA_FN void turn_row(float* x, int32_t head_dim, int32_t position) const {
    const int32_t half = min_(num_paired(head_dim), head_dim) / 2;
    if (!p.cos_sin.empty()) {
      const float* row = p.cos_sin.row(position);
      turn_pairs(x, {.first = 0, .end = half, .half = half}, row, row + p.cos_sin.cols / 2);
      return;
    }
    float cosines[kAnglesAtOnce], sines[kAnglesAtOnce];
    Frequencies frequencies(p, num_paired(head_dim));
    for (int32_t i = 0; i < half; i += kAnglesAtOnce) {
      frequencies.next_angles(position, cosines, sines);
      turn_pairs(x, {.first = i, .end = min_(i + kAnglesAtOnce, half), .half = half}, cosines, sines);
    }
  }

  struct Pairs {
    int32_t first, end, half;  // of `half` pairs
  };
  /// `cosines` and `sines` are those of pairs.first onwards.
  FOVEA_FN static void turn_pairs(float* x, const Pairs& pairs, const float* FOVEA_RESTRICT cosines, const float* FOVEA_RESTRICT sines) {
    const int32_t count = pairs.end - pairs.first;
    if constexpr (P == Pairing::half) {
      float* FOVEA_RESTRICT a = x + pairs.first;
      float* FOVEA_RESTRICT b = x + pairs.half + pairs.first;
      for (int32_t i = 0; i < count; ++i) {
        const float before = a[i];
        a[i] = before * cosines[i] - b[i] * sines[i];
        b[i] = b[i] * cosines[i] + before * sines[i];
      }
    } else {
      float* FOVEA_RESTRICT a = x + 2 * pairs.first;
      for (int32_t i = 0; i < count; ++i) {
        const float before = a[2 * i];
        const float other = a[2 * i + 1];
        a[2 * i] = before * cosines[i] - other * sines[i];
        a[2 * i + 1] = other * cosines[i] + before * sines[i];
      }
    }
  }

  static constexpr int32_t kAnglesAtOnce = 16;
  /// Frequencies in order: each is the one sixteen before it times a constant.
  struct Frequencies {
    const RopeParams& p;
    double turns[kAnglesAtOnce];  // a position, before they are slowed down
    double step, per_span, slowest;
    FOVEA_FN Frequencies(const RopeParams& params, int32_t n)
        : p(params),
          per_span(1.0 / (double{params.high_freq_factor} - double{params.low_freq_factor})),
          slowest(1.0 / double{params.factor}) {
      const double ratio = math::exp2(-2.0 / n * math::log2(double{p.theta}));
      double frequency = 1.0 / 6.283185307179586477;
      for (int32_t i = 0; i < kAnglesAtOnce; ++i) {
        turns[i] = frequency;
        frequency *= ratio;
      }
      step = frequency * 6.283185307179586477;
    }
    FOVEA_FN void next_angles(int32_t position, float* FOVEA_RESTRICT cosines, float* FOVEA_RESTRICT sines) {
      float parts[kAnglesAtOnce];
      for (int32_t i = 0; i < kAnglesAtOnce; ++i) {
        const double gradual = min_(1.0, max_(0.0, (turns[i] * p.original_context - double{p.low_freq_factor}) * per_span));
        const double fast = p.original_context > 0 ? gradual : 0.0;
        const double angle = position * (turns[i] * ((1.0 - fast) * slowest + fast));
        parts[i] = static_cast<float>(angle - math::floor(angle + 0.5));
        turns[i] *= step;
      }
      for (int32_t i = 0; i < kAnglesAtOnce; ++i) {
        cosines[i] = math::cos_turns(parts[i]);
        sines[i] = math::sin_turns(parts[i]);
      }
    }
  };

  template <class T>
  FOVEA_FN ElementPair<T> turned(ElementPair<T> x, Element e, int32_t position) const {
    const ElementPair<T> angle = p.cos_sin.empty() ? computed<T>(e, position) : looked_up<T>(e, position);
    return {x.a * angle.a - x.b * angle.b, x.b * angle.a + x.a * angle.b};
  }
  /// Cosine and sine.
  template <class T>
  FOVEA_FN ElementPair<T> looked_up(Element e, int32_t position) const {
    const float* row = p.cos_sin.row(position);  // pairs are half as many as its columns
    return {T(row[e.i]), T(row[e.i + p.cos_sin.cols / 2])};
  }
  /// Off by at most 2^-22 + 2^-50 * |position| with float, row by row; a 2^-52 where pairs come one by one.
  template <class T>
  FOVEA_FN ElementPair<T> computed(Element e, int32_t position) const {
    const double turns = position * p.turns_per_position(e.i, num_paired(e.head_dim));
    const T part = static_cast<T>(turns - math::floor(turns + 0.5));
    return {math::cos_turns(part), math::sin_turns(part)};
  }
};

}  // namespace fovea
