// What an attention variant is: two parameter structs and a handful of hooks, each optional. Read by the library, the run-time compilers
// and NVRTC.
//
//   struct SoftCap : VariantBase {
//     struct Params { float cap; FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap)) };
//     template <class T> FOVEA_FN T transform_logit(T logit, Position<> at) const { return T(p.cap) * math::tanh(logit / T(p.cap)); }
//     Params p;
//   };
#pragma once

#include "portable/compat.h"
#include "portable/fields.h"
#include "portable/kv_range.h"
#include "portable/math.h"

namespace fovea {

/// Where a logit stands. `I` is int32_t, or an interval when a mask is asked about a whole tile.
template <class I = int32_t>
struct Position {
  int32_t request;
  I qo_idx;  // query token within its request, 0 .. qo_len - 1
  I q_pos;   // its position, on the axis of kv_pos: causal is kv_pos <= q_pos
  I kv_pos;  // position of the key within its request
  I qo_head;
  I kv_head;
  int32_t qo_len, kv_len;  // of the request
};

/// Hooks. A variant defines those it needs, with these signatures; one it leaves out costs nothing.
///   Mask::keep(Position<I> at)             does the query see the key? Member of Mask, which can't see Params. Template on I
///   Mask::range()                          KvRange: the same in closed form, a superset of keep
///   transform_logit(T logit, Position<>)   logit = sm_scale * q . k (natural); its result goes into softmax, or with use_softmax = false
///   is the weight extra_logit<T>(Position<>)             a logit without a value (attention sink); once per row, at finalisation; kv_pos
///   is not set transform_output(T o, Position<>)      once per element, at finalisation; kv_pos is not set
struct VariantBase {
  struct Mask {
    template <class I>
    FOVEA_FN bool keep(const Position<I>&) const {
      return true;
    }
    FOVEA_FN constexpr KvRange range() const { return {.exact = 1}; }
    FOVEA_FIELDS(Mask)
  };
  struct Params {
    FOVEA_FIELDS(Params)
  };
  static constexpr bool use_softmax = true;
};

template <class V>
concept HasTransformLogit = requires(const V& v, Position<> at) { v.transform_logit(1.0f, at); };
template <class V>
concept HasExtraLogit = requires(const V& v, Position<> at) { v.template extra_logit<float>(at); };
template <class V>
concept HasTransformOutput = requires(const V& v, Position<> at) { v.transform_output(1.0f, at); };

/// A variant is default-constructible, with members `Mask m` and `Params p` where it has its own Mask or Params.
template <class V>
concept AttentionVariant = requires(const V& v, const typename V::Mask& mask, Position<> at) {
  { mask.keep(at) };
  { mask.range() };
  V::Mask::fields();
  V::Params::fields();
  { V::use_softmax };
};

/// V with its Mask and Params set.
template <AttentionVariant V>
FOVEA_FN V make_variant(const typename V::Mask& mask, const typename V::Params& params) {
  V v{};
  if constexpr (requires { v.m = mask; }) {
    v.m = mask;
  }
  if constexpr (requires { v.p = params; }) {
    v.p = params;
  }
  return v;
}

template <class V, class T>
FOVEA_FN T transformed_logit(const V& v, T logit, const Position<>& at) {
  if constexpr (HasTransformLogit<V>) {
    return v.transform_logit(logit, at);
  } else {
    return logit;
  }
}

/// The extra logit, or -infinity where the variant has none.
template <class T, class V>
FOVEA_FN T extra_logit_of(const V& v, const Position<>& at) {
  if constexpr (HasExtraLogit<V>) {
    return v.template extra_logit<T>(at);
  } else {
    return -math::infinity<T>();
  }
}

template <class V, class T>
FOVEA_FN T transformed_output(const V& v, T o, const Position<>& at) {
  if constexpr (HasTransformOutput<V>) {
    return v.transform_output(o, at);
  } else {
    return o;
  }
}

}  // namespace fovea
