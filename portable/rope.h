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

  Params p;

 private:
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
  /// Off by at most 2^-22 + 2^-52 * |position| with float.
  template <class T>
  FOVEA_FN ElementPair<T> computed(Element e, int32_t position) const {
    const double turns = position * p.turns_per_position(e.i, num_paired(e.head_dim));
    const T part = static_cast<T>(turns - math::floor(turns + 0.5));
    return {math::cos_turns(part), math::sin_turns(part)};
  }
};

}  // namespace fovea
