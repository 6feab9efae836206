// What the host reads from a compiled variant that is no part of the library: its fields and defaults, as bytes inside the cubin, and its
// range, from a kernel. Read by NVRTC and, for the layout, by the library.
#pragma once

#include "portable/variant_shape.h"

namespace fovea::cuda {

inline constexpr int32_t kMaxFieldName = 64;
inline constexpr char kVariantMarker[16] = {'f', 'o', 'v', 'e', 'a', ' ', 'v', 'a', 'r', 'i', 'a', 'n', 't', ' ', '1', '\0'};

struct PackedField {
  char name[kMaxFieldName];
  FieldType type;
  Extent extent;
  bool required, above_zero;
  uint32_t offset;
  int32_t part, at_least;
};

struct PackedFields {
  PackedField fields[kMaxFields];
  int32_t count;
  uint32_t struct_bytes;
};

/// A VariantShape without pointers. The marker is where the host finds it in a cubin.
struct PackedShape {
  char marker[sizeof(kVariantMarker)];
  uint32_t shape_bytes, mask_at, params_at;  // of this struct; of the defaults, from the marker on
  bool use_softmax, has_extra_logit, transforms_query, transforms_key, transforms_value;
  TileAnswer tile_answer;
  PackedFields mask_fields, param_fields;
};

constexpr PackedFields packed(const FieldList& list) {
  PackedFields to{};
  for (int32_t f = 0; f < list.count; ++f) {
    const Field& from = list.fields[f];
    PackedField& field = to.fields[f];
    int32_t c = 0;
    for (; c + 1 < kMaxFieldName && from.name[c] != '\0'; ++c) {
      field.name[c] = from.name[c];
    }
    field.name[c] = '\0';
    field.type = from.type;
    field.extent = from.extent;
    field.required = from.required;
    field.above_zero = from.above_zero;
    field.offset = from.offset;
    field.part = from.part;
    field.at_least = from.at_least;
  }
  to.count = list.count;
  to.struct_bytes = list.struct_bytes;
  return to;
}

/// Shape, default mask and default params, one after the other.
template <AttentionVariant V>
struct ExportedVariant {
  PackedShape shape;
  alignas(16) typename V::Mask mask;
  alignas(16) typename V::Params params;
};

template <AttentionVariant V>
constexpr ExportedVariant<V> exported_variant() {
  static_assert(kHooksAreSound<V>);
  ExportedVariant<V> e{};
  for (uint32_t c = 0; c < sizeof(kVariantMarker); ++c) {
    e.shape.marker[c] = kVariantMarker[c];
  }
  e.shape.shape_bytes = sizeof(PackedShape);
  e.shape.mask_at = FOVEA_OFFSETOF(ExportedVariant<V>, mask);
  e.shape.params_at = FOVEA_OFFSETOF(ExportedVariant<V>, params);
  e.shape.use_softmax = V::use_softmax;
  e.shape.has_extra_logit = HasExtraLogit<V>;
  e.shape.transforms_query = HasTransformQuery<V>;
  e.shape.transforms_key = HasTransformKey<V>;
  e.shape.transforms_value = HasTransformValue<V>;
  e.shape.tile_answer = tile_answer<typename V::Mask>();
  e.shape.mask_fields = packed(V::Mask::fields());
  e.shape.param_fields = packed(V::Params::fields());
  return e;
}

/// Calls every hook, so that a mistake in one is found before a kernel is compiled: bodies of templates that nobody calls are not read.
template <AttentionVariant V>
FOVEA_FN void call_hooks(const V& v, const typename V::Mask& mask, const Position<>& at, float* x, int32_t head_dim) {
  transform_query_row(v, x, head_dim, at);
  transform_key_row(v, x, head_dim, at);
  transform_value_row(v, x, head_dim, at);
  x[0] = transformed_logit(v, x[0], at);
  x[1] = extra_logit_of<float>(v, at);
  x[2] = transformed_output(v, x[2], at);
  x[3] = mask.keep(at) ? 1.0f : 0.0f;
}

}  // namespace fovea::cuda
