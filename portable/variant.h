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
#include "portable/interval.h"
#include "portable/kv_range.h"
#include "portable/math.h"

namespace fovea {

/// Where a logit stands. `I` is int32_t, or Interval when a mask is asked about a whole tile.
template <class I = int32_t>
struct Position {
  I request;
  I qo_idx;  // query token within its request, 0 .. qo_len - 1
  I q_pos;   // its position, on the axis of kv_pos: causal is kv_pos <= q_pos
  I kv_pos;  // position of the key within its request
  I qo_head;
  I kv_head;
  I qo_len, kv_len;  // of the request
};

/// Which elements of a row a transform of queries, keys or values sees together.
enum class Pairing : uint8_t {
  none,      // one
  half,      // i and i + n / 2 of the first n elements, as GPT-NeoX rotates
  adjacent,  // 2 i and 2 i + 1 of the first n elements
};

template <class T>
struct ElementPair {
  T a, b;
};

/// Which element of a row: `i` counts elements, or pairs with a Pairing.
struct Element {
  int32_t i, head_dim;
};

/// Hooks. A variant defines those it needs, with these signatures; one it leaves out costs nothing. T is float or double.
///   Mask::keep(Position<I> at)              does the query see the key? Member of Mask, which can't see Params. A template on I answers
///   for
///                                           tiles too, in the vocabulary of portable/interval.h and portable/table.h; one that takes
///                                           Position<> alone is opaque: right, and evaluated for every pair that range() leaves
///   Mask::range()                           KvRange: the same in closed form, a superset of keep
///   transform_query(T x, Element, Position<>)   once per element of a query, dequantised; kv_pos is not set. With a pairing, x and the
///   transform_key(T x, Element, Position<>)     result are ElementPair<T>; elements from num_paired(head_dim) on stay as they are.
///   transform_value(T x, Element, Position<>)   Keys and values, dequantised: only kv_pos and kv_head are set
///   transform_logit(T logit, Position<>)    logit = sm_scale * q . k (natural); its result goes into softmax, or with use_softmax = false
///                                           is the weight
///   extra_logit<T>(Position<>)              a logit without a value (attention sink); once per row, at finalisation; kv_pos is not set
///   transform_output(T o, Position<>)       once per element, at finalisation; kv_pos is not set. A row that sees nothing is 0 and not
///                                           transformed; with use_softmax = false it is a sum like any other, and 0 is what comes in
struct VariantBase {
  struct Mask {
    static constexpr bool keeps_all = true;
    static constexpr bool exact_on_tiles =
        true;  // of one request empty and full tiles are always found (portable/tile_class_test.cc proves it)
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
  static constexpr Pairing pairing = Pairing::none;
  FOVEA_FN int32_t num_paired(int32_t head_dim) const { return head_dim; }
};

/// What a transform of a variant is given and returns.
template <class V, class T>
struct TransformedOf {
  using type = T;
};
template <class V, class T>
  requires(V::pairing != Pairing::none)
struct TransformedOf<V, T> {
  using type = ElementPair<T>;
};

// A composition transforms whole rows, part by part; a variant of one part elements or pairs.
template <class V>
concept HasTransformQuery = requires(const V& v, typename TransformedOf<V, float>::type x, Element e, Position<> at) {
  v.transform_query(x, e, at);
} || requires(const V& v, float* row, Position<> at) { v.transform_query_row(row, 1, at); };
template <class V>
concept HasTransformKey = requires(const V& v, typename TransformedOf<V, float>::type x, Element e, Position<> at) {
  v.transform_key(x, e, at);
} || requires(const V& v, float* row, Position<> at) { v.transform_key_row(row, 1, at); };
template <class V>
concept HasTransformValue = requires(const V& v, typename TransformedOf<V, float>::type x, Element e, Position<> at) {
  v.transform_value(x, e, at);
} || requires(const V& v, float* row, Position<> at) { v.transform_value_row(row, 1, at); };
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

/// Calls hook(x, element) for every element of a row, or every pair.
template <class V, class T, class Hook>
FOVEA_FN void transform_elements(const V& v, T* FOVEA_RESTRICT x, int32_t head_dim, const Hook& hook) {
  if constexpr (V::pairing == Pairing::none) {
    for (int32_t i = 0; i < head_dim; ++i) {
      x[i] = hook(x[i], Element{i, head_dim});
    }
  } else {
    const int32_t half = min_(v.num_paired(head_dim), head_dim) / 2;
    const int32_t step = V::pairing == Pairing::adjacent ? 2 : 1;
    const int32_t apart = V::pairing == Pairing::adjacent ? 1 : half;
    for (int32_t i = 0; i < half; ++i) {
      const ElementPair<T> y = hook(ElementPair<T>{x[i * step], x[i * step + apart]}, Element{i, head_dim});
      x[i * step] = y.a;
      x[i * step + apart] = y.b;
    }
  }
}

template <class V, class T>
FOVEA_FN void transform_query_row(const V& v, T* x, int32_t head_dim, const Position<>& at) {
  if constexpr (requires { v.transform_query_row(x, head_dim, at); }) {
    v.transform_query_row(x, head_dim, at);
  } else if constexpr (HasTransformQuery<V>) {
    transform_elements(v, x, head_dim, [&](auto y, Element e) { return v.transform_query(y, e, at); });
  }
}

template <class V, class T>
FOVEA_FN void transform_key_row(const V& v, T* x, int32_t head_dim, const Position<>& at) {
  if constexpr (requires { v.transform_key_row(x, head_dim, at); }) {
    v.transform_key_row(x, head_dim, at);
  } else if constexpr (HasTransformKey<V>) {
    transform_elements(v, x, head_dim, [&](auto y, Element e) { return v.transform_key(y, e, at); });
  }
}

template <class V, class T>
FOVEA_FN void transform_value_row(const V& v, T* x, int32_t head_dim, const Position<>& at) {
  if constexpr (requires { v.transform_value_row(x, head_dim, at); }) {
    v.transform_value_row(x, head_dim, at);
  } else if constexpr (HasTransformValue<V>) {
    transform_elements(v, x, head_dim, [&](auto y, Element e) { return v.transform_value(y, e, at); });
  }
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
