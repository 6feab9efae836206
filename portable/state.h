// The arithmetic of a row's state: how partial states merge and how a row is finalised. The only home of these formulas; every backend uses
// them.
#pragma once

#include "portable/math.h"
#include "portable/params.h"
#include "portable/variant.h"

namespace fovea {

/// Weights of two states in their merge: o = a * o_a + b * o_b, lse2 = log2(2^lse2_a + 2^lse2_b). Empty states (-inf) weigh 0; two empty
/// ones stay empty. NaN and +inf come out as NaN: a spoilt state must not pass for an empty one. Source: section 2.2 of arXiv 2501.01005.
template <class T>
struct MergeWeights {
  T a, b, lse2;
};

template <class T>
FOVEA_FN MergeWeights<T> merge_weights(T lse2_a, T lse2_b) {
  const T empty = -math::infinity<T>();
  if (lse2_a == empty && lse2_b == empty) {
    return {T(0), T(0), empty};
  }
  const T top = max_(lse2_a, lse2_b);
  const T ea = math::exp2(lse2_a - top);
  const T eb = math::exp2(lse2_b - top);
  const T sum = ea + eb;
  return {ea / sum, eb / sum, top + math::log2(sum)};
}

/// Factor on o and the log-sum-exp with the extra logit counted: the extra logit takes its share of the softmax and brings no value.
template <class T>
struct Finalised {
  T scale, lse2_with_extra;
};

template <class T, class V>
FOVEA_FN Finalised<T> finalise(const V& v, T lse2, const Position<>& at) {
  if constexpr (HasExtraLogit<V>) {
    const MergeWeights<T> w = merge_weights(lse2, T(extra_logit_of<T>(v, at) * T(1.44269504088896340736)));
    return {w.a, w.lse2};
  } else {
    return {T(1), lse2};
  }
}

}  // namespace fovea
