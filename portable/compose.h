// Compose<A, B, ...>: several variants as one, in written order. Keeps are and-ed, transforms run left to right; at most one part may have
// an extra logit, and at most one, the last that transforms logits, may do without softmax.
#pragma once

#include "portable/check_hooks.h"
#include "portable/tile_class.h"
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
  static_assert(use_softmax || !(HasExtraLogit<A> || HasExtraLogit<B>),
                "one part of a composition has extra_logit and another use_softmax = false; an extra logit takes part in a softmax");

  struct Mask {
    static constexpr bool keeps_all = kKeepsAll<typename A::Mask> && kKeepsAll<typename B::Mask>;
    // Two masks that are exact alone may each keep another pair of a tile.
    static constexpr bool exact_on_tiles = (kKeepsAll<typename A::Mask> && tile_answer<typename B::Mask>() == TileAnswer::exact) ||
                                           (kKeepsAll<typename B::Mask> && tile_answer<typename A::Mask>() == TileAnswer::exact);
    typename A::Mask a;
    typename B::Mask b;
    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return both_of(keep_of(a, at), keep_of(b, at));
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

  // Row by row: the parts may pair elements differently.
  template <class T>
  FOVEA_FN void transform_query_row(T* x, int32_t head_dim, const Position<>& at) const
    requires(HasTransformQuery<A> || HasTransformQuery<B>)
  {
    fovea::transform_query_row(first(), x, head_dim, at);
    fovea::transform_query_row(second(), x, head_dim, at);
  }
  template <class T>
  FOVEA_FN void transform_key_row(T* x, int32_t head_dim, const Position<>& at) const
    requires(HasTransformKey<A> || HasTransformKey<B>)
  {
    fovea::transform_key_row(first(), x, head_dim, at);
    fovea::transform_key_row(second(), x, head_dim, at);
  }
  template <class T>
  FOVEA_FN void transform_value_row(T* x, int32_t head_dim, const Position<>& at) const
    requires(HasTransformValue<A> || HasTransformValue<B>)
  {
    fovea::transform_value_row(first(), x, head_dim, at);
    fovea::transform_value_row(second(), x, head_dim, at);
  }
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

/// Sound where the parts are, and go together: a composition's own hooks are the parts' hooks.
template <class A, class B>
inline constexpr bool kHooksAreSound<Pair<A, B>> = kHooksAreSound<A> && kHooksAreSound<B> && sizeof(Pair<A, B>) != 0;

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
