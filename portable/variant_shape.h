// What a variant looks like from outside: its fields, defaults and range as plain data and functions, made by whichever compiler compiled
// it: the library's or a run-time one.
#pragma once

#include "portable/check_hooks.h"
#include "portable/tile_class.h"
#include "portable/variant.h"

namespace fovea {

struct VariantShape {
  FieldList mask_fields = {};
  FieldList param_fields = {};
  bool use_softmax = true;
  bool has_extra_logit = false;
  bool transforms_rows = false;  // queries, keys or values
  TileAnswer tile_answer = TileAnswer::opaque;
  KvRange (*range_of)(const void* mask) = nullptr;  // V::Mask::range()
  TileClass (*class_of)(const void* mask, const Position<Interval>& tile) = nullptr;
  void (*init_mask)(void* mask) = nullptr;  // default values
  void (*init_params)(void* params) = nullptr;
};

template <class V>
KvRange range_of_mask(const void* mask) {
  static_assert(kHooksAreSound<V>);
  return static_cast<const typename V::Mask*>(mask)->range();
}
template <class V>
TileClass class_of_tile(const void* mask, const Position<Interval>& tile) {
  return classify(*static_cast<const typename V::Mask*>(mask), tile);
}
/// `to` is bytes, aligned and large enough.
template <class Struct>
void init_struct(void* to) {
  *static_cast<Struct*>(to) = Struct{};
}

template <AttentionVariant V>
inline constexpr VariantShape kVariantShapeOf{.mask_fields = V::Mask::fields(),
                                              .param_fields = V::Params::fields(),
                                              .use_softmax = V::use_softmax,
                                              .has_extra_logit = HasExtraLogit<V>,
                                              .transforms_rows = HasTransformQuery<V> || HasTransformKey<V> || HasTransformValue<V>,
                                              .tile_answer = tile_answer<typename V::Mask>(),
                                              .range_of = range_of_mask<V>,
                                              .class_of = class_of_tile<V>,
                                              .init_mask = init_struct<typename V::Mask>,
                                              .init_params = init_struct<typename V::Params>};

}  // namespace fovea
