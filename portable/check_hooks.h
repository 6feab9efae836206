// Mistakes in a variant that would otherwise compile and do nothing: a hook with another signature is a function nobody calls.
// Whoever compiles a variant into a kernel asserts kHooksAreSound<V>.
#pragma once

#include "portable/variant.h"

namespace fovea {

/// Every hook of a variant by name; those of its Mask are keep and range. (A look at a user's text, src/jit/look.cc, reads it too.)
#define FOVEA_HOOKS(DO) DO(transform_query) DO(transform_key) DO(transform_value) DO(transform_logit) DO(extra_logit) DO(transform_output)
#define FOVEA_HOOK_NAME(hook) int hook;
/// Has a name that a variant has too, the name is ambiguous in a class derived from both; else it can be taken the address of.
struct HookNames {
  FOVEA_HOOKS(FOVEA_HOOK_NAME)
};
#undef FOVEA_HOOK_NAME
template <class V>
struct NamesTogether : V, HookNames {};

template <AttentionVariant V>
constexpr bool hooks_are_sound() {
  using Names = NamesTogether<V>;
  static_assert(
      HasTransformQuery<V> || requires { &Names::transform_query; },
      "transform_query must be callable as (T or ElementPair<T>, Element, const Position<>&), const");
  static_assert(
      HasTransformKey<V> || requires { &Names::transform_key; },
      "transform_key must be callable as (T or ElementPair<T>, Element, const Position<>&), const");
  static_assert(
      HasTransformValue<V> || requires { &Names::transform_value; },
      "transform_value must be callable as (T or ElementPair<T>, Element, const Position<>&), const");
  static_assert(
      HasTransformLogit<V> || requires { &Names::transform_logit; },
      "transform_logit must be callable as (T logit, const Position<>&), const");
  static_assert(
      HasExtraLogit<V> || requires { &Names::extra_logit; },
      "extra_logit must be a template on the number type, callable as extra_logit<T>(const Position<>&), const");
  static_assert(
      HasTransformOutput<V> || requires { &Names::transform_output; },
      "transform_output must be callable as (T o, const Position<>&), const");
  static_assert(
      kSame<typename V::Mask, VariantBase::Mask> || requires(V v, const typename V::Mask& mask) { v.m = mask; },
      "a variant with a Mask of its own needs a member `Mask m`");
  static_assert(
      kSame<typename V::Params, VariantBase::Params> || requires(V v, const typename V::Params& params) { v.p = params; },
      "a variant with Params of its own needs a member `Params p`");
  static_assert(V::use_softmax || !HasExtraLogit<V>, "an extra logit takes part in a softmax; this variant has use_softmax = false");
  return true;
}

template <class V>
inline constexpr bool kHooksAreSound = hooks_are_sound<V>();

}  // namespace fovea
