// Compose<A, B, ...>: several variants as one, in written order. Keeps are and-ed, logit and output transforms run left to right; at most
// one part may have an extra logit, and at most one, the last that transforms logits, may do without softmax.
#pragma once

#include "portable/variant.h"

namespace fovea {

template <class V>
inline constexpr int32_t num_parts_of = 1;

template <AttentionVariant A, AttentionVariant B>
struct Pair : VariantBase {
  static_assert(!(HasExtraLogit<A> && HasExtraLogit<B>), "two parts of a composition have extra_logit; a row has one extra logit");
  static_assert(A::use_softmax || B::use_softmax,
                "two parts of a composition have use_softmax = false; only one may turn logits into weights");
  static_assert(A::use_softmax || !HasTransformLogit<B>, "a part with use_softmax = false must be the last that transforms logits");
  static constexpr bool use_softmax = A::use_softmax && B::use_softmax;

  struct Mask {
    typename A::Mask a;
    typename B::Mask b;
    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return a.keep(at) & b.keep(at);
    }
    FOVEA_FN constexpr KvRange range() const { return intersect(a.range(), b.range()); }
    static constexpr FieldList fields() {
      return joined_fields(A::Mask::fields(), B::Mask::fields(), FOVEA_OFFSETOF(Mask, b), num_parts_of<A>, sizeof(Mask));
    }
  };
  struct Params {
    typename A::Params a;
    typename B::Params b;
    static constexpr FieldList fields() {
      return joined_fields(A::Params::fields(), B::Params::fields(), FOVEA_OFFSETOF(Params, b), num_parts_of<A>, sizeof(Params));
    }
  };

  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>& at) const
    requires(HasTransformLogit<A> || HasTransformLogit<B>)
  {
    return transformed_logit(second(), transformed_logit(first(), logit, at), at);
  }
  template <class T>
  FOVEA_FN T extra_logit(const Position<>& at) const
    requires(HasExtraLogit<A> || HasExtraLogit<B>)
  {
    if constexpr (HasExtraLogit<A>) {
      return first().template extra_logit<T>(at);
    } else {
      return second().template extra_logit<T>(at);
    }
  }
  template <class T>
  FOVEA_FN T transform_output(T o, const Position<>& at) const
    requires(HasTransformOutput<A> || HasTransformOutput<B>)
  {
    return transformed_output(second(), transformed_output(first(), o, at), at);
  }

  FOVEA_FN A first() const { return make_variant<A>(m.a, p.a); }
  FOVEA_FN B second() const { return make_variant<B>(m.b, p.b); }

  Mask m;
  Params p;
};

template <class A, class B>
inline constexpr int32_t num_parts_of<Pair<A, B>> = num_parts_of<A> + num_parts_of<B>;

template <class First, class... Rest>
struct Composition;
template <class Only>
struct Composition<Only> {
  using type = Only;
};
template <class A, class B, class... Rest>
struct Composition<A, B, Rest...> {
  using type = typename Composition<Pair<A, B>, Rest...>::type;
};
template <class... Variants>
using Compose = typename Composition<Variants...>::type;

}  // namespace fovea
