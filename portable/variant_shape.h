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
  bool transforms_query = false, transforms_key = false, transforms_value = false;
  TileAnswer tile_answer = TileAnswer::opaque;
  KvRange (*range_of)(const void* mask) = nullptr;                                          // V::Mask::range()
  TileClass (*class_of)(const void* mask, const Position<Interval>& tile) = nullptr;        // by intervals
  TileClass (*class_of_pairs)(const void* mask, const Position<Interval>& tile) = nullptr;  // by every pair, of one request and head
  void (*init_mask)(void* mask) = nullptr;                                                  // default values
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
template <class V>
TileClass class_of_pairs(const void* mask, const Position<Interval>& tile) {
  return classify_pairs(*static_cast<const typename V::Mask*>(mask), tile);
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
                                              .transforms_query = HasTransformQuery<V>,
                                              .transforms_key = HasTransformKey<V>,
                                              .transforms_value = HasTransformValue<V>,
                                              .tile_answer = tile_answer<typename V::Mask>(),
                                              .range_of = range_of_mask<V>,
                                              .class_of = class_of_tile<V>,
                                              .class_of_pairs = class_of_pairs<V>,
                                              .init_mask = init_struct<typename V::Mask>,
                                              .init_params = init_struct<typename V::Params>};

/// What a shared object compiled at run time exports, under the name fovea_variant. `Code` is the backend's.
struct ExportedShape {
  uint32_t struct_bytes;  // of the whole: the library's idea of it must be the compiler's
  VariantShape shape;
};
template <class Code>
struct ExportedVariant : ExportedShape {
  Code code;
};

/// What the text of a part must have, said in words before a template says it in its own. The parts of a composition are checked one by
/// one.
template <class V>
constexpr bool part_is_whole() {
  static_assert(
      requires(const V& v) { static_cast<const VariantBase&>(v); }, "a variant is a struct that derives from VariantBase");
  static_assert(
      requires { V::Mask::fields(); },
      "struct Mask must list its fields: FOVEA_FIELDS(Mask, FOVEA_REQUIRED(name), FOVEA_OPTIONAL(name)) as its last line");
  static_assert(
      requires { V::Params::fields(); },
      "struct Params must list its fields: FOVEA_FIELDS(Params, FOVEA_REQUIRED(name), FOVEA_OPTIONAL(name)) as its last line");
  static_assert(
      requires(const typename V::Mask& mask, Position<> at) { mask.keep(at); },
      "struct Mask must have keep(at): template <class I> FOVEA_FN auto keep(const Position<I>& at) const");
  static_assert(
      requires(const typename V::Mask& mask) { KvRange(mask.range()); },
      "struct Mask must have range(), a KvRange that holds all that keep keeps; `return {};` holds everything");
  return true;
}

template <class... Parts>
constexpr bool parts_are_whole() {
  if constexpr ((part_is_whole<Parts>() && ...)) {
    static_assert((Parts::Mask::fields().count + ...) <= kMaxFields, "a composition has too many mask fields; see kMaxFields");
    static_assert((Parts::Params::fields().count + ...) <= kMaxFields, "a composition has too many params; see kMaxFields");
  }
  return true;
}

}  // namespace fovea
