// A variant's hooks in double precision, as functions: where a variant, built in or compiled at run time, meets the reference.
#pragma once

#include "portable/variant.h"

namespace fovea::reference {

/// `mask` and `params` are V::Mask and V::Params.
struct Hooks {
  bool (*keep)(const void* mask, const Position<>& at);
  // A whole row in place; null where the variant leaves it as it is.
  void (*transform_query)(const void* mask, const void* params, double* row, int32_t head_dim, const Position<>& at);
  void (*transform_key)(const void* mask, const void* params, double* row, int32_t head_dim, const Position<>& at);
  void (*transform_value)(const void* mask, const void* params, double* row, int32_t head_dim, const Position<>& at);
  double (*transform_logit)(const void* mask, const void* params, double logit, const Position<>& at);
  double (*extra_logit)(const void* mask, const void* params, const Position<>& at);  // -inf: none
  double (*transform_output)(const void* mask, const void* params, double o, const Position<>& at);
  bool use_softmax;
};

template <AttentionVariant V>
V variant_of(const void* mask, const void* params) {
  return make_variant<V>(*static_cast<const typename V::Mask*>(mask), *static_cast<const typename V::Params*>(params));
}

template <AttentionVariant V>
bool keep(const void* mask, const Position<>& at) {
  return static_cast<bool>(static_cast<const typename V::Mask*>(mask)->keep(at));
}
template <AttentionVariant V>
void transform_query(const void* mask, const void* params, double* row, int32_t head_dim, const Position<>& at) {
  transform_query_row(variant_of<V>(mask, params), row, head_dim, at);
}
template <AttentionVariant V>
void transform_key(const void* mask, const void* params, double* row, int32_t head_dim, const Position<>& at) {
  transform_key_row(variant_of<V>(mask, params), row, head_dim, at);
}
template <AttentionVariant V>
void transform_value(const void* mask, const void* params, double* row, int32_t head_dim, const Position<>& at) {
  transform_value_row(variant_of<V>(mask, params), row, head_dim, at);
}
template <AttentionVariant V>
double transform_logit(const void* mask, const void* params, double logit, const Position<>& at) {
  return transformed_logit(variant_of<V>(mask, params), logit, at);
}
template <AttentionVariant V>
double extra_logit(const void* mask, const void* params, const Position<>& at) {
  return extra_logit_of<double>(variant_of<V>(mask, params), at);
}
template <AttentionVariant V>
double transform_output(const void* mask, const void* params, double o, const Position<>& at) {
  return transformed_output(variant_of<V>(mask, params), o, at);
}

template <AttentionVariant V>
inline constexpr Hooks kHooksOf{.keep = keep<V>,
                                .transform_query = HasTransformQuery<V> ? transform_query<V> : nullptr,
                                .transform_key = HasTransformKey<V> ? transform_key<V> : nullptr,
                                .transform_value = HasTransformValue<V> ? transform_value<V> : nullptr,
                                .transform_logit = transform_logit<V>,
                                .extra_logit = extra_logit<V>,
                                .transform_output = transform_output<V>,
                                .use_softmax = V::use_softmax};

}  // namespace fovea::reference
