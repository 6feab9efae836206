// From scores to logits: the only code of this backend that knows the variant. Plain loops and no vector type: what a run-time compile of a
// user's variant costs is this header.
//
// Bits: a row's logits never depend on the other rows of its tile. Full and mixed tiles scale by the same multiplication and nothing is
// contracted (-ffp-contract=off), so that a tile being mixed because of a neighbour changes nothing.
#pragma once

#include "backends/cpu/device/variant_code.h"
#include "portable/state.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

template <AttentionVariant V>
FOVEA_FN V variant_of(const void* mask, const void* params) {
  return make_variant<V>(*static_cast<const typename V::Mask*>(mask), *static_cast<const typename V::Params*>(params));
}

/// V::Mask of a variant; variants without one have the base's.
template <class V>
FOVEA_FN auto mask_of(const V& v) {
  if constexpr (requires { v.m; }) {
    return v.m;
  } else {
    return typename V::Mask{};
  }
}

/// One row's logits: plain loops over independent columns, which compilers turn into full-width code.
template <class V, bool Masked>
FOVEA_FN void make_row_logits(const ScoreTile& tile, const V& v, int32_t r) {
  const ItemRow row = tile.rows[r];
  const int32_t count = tile.num_columns;
  float* FOVEA_RESTRICT scores = tile.scores + static_cast<int64_t>(r) * tile.stride;
  const int32_t* FOVEA_RESTRICT kv_pos = tile.columns->kv_pos;
  if (tile.k_scale_per_column) {
    const float* FOVEA_RESTRICT k_scale = tile.columns->k_scale;
    for (int32_t c = 0; c < count; ++c) {
      scores[c] *= k_scale[c];
    }
  }
  if constexpr (HasTransformLogit<V>) {
    for (int32_t c = 0; c < count; ++c) {
      Position<> at = row.at;
      at.kv_pos = kv_pos[c];
      scores[c] = transformed_logit(v, scores[c] * tile.scale, at);
    }
  } else {
    for (int32_t c = 0; c < count; ++c) {
      scores[c] *= tile.scale;
    }
  }
  if constexpr (Masked) {
    const int32_t* FOVEA_RESTRICT live = tile.columns->live;
    const int32_t columns_left = row.col_end - tile.columns->first_column;
    const int32_t kv_end = tile.by_index ? row.at.kv_len : kUnbounded;
    const float masked = V::use_softmax ? -math::infinity<float>() : 0.0f;
    for (int32_t c = 0; c < count; ++c) {
      Position<> at = row.at;
      at.kv_pos = kv_pos[c];
      const bool sees = (live[c] != 0) & (c < columns_left) & (at.kv_pos < kv_end) & static_cast<bool>(mask_of(v).keep(at));
      scores[c] = sees ? scores[c] : masked;
    }
  }
}

template <AttentionVariant V>
void make_logits(const ScoreTile& tile, const void* mask, const void* params) {
  const V v = variant_of<V>(mask, params);
  if (tile.columns->full) {
    for (int32_t r = 0; r < tile.num_rows; ++r) {
      make_row_logits<V, false>(tile, v, r);
    }
  } else {
    for (int32_t r = 0; r < tile.num_rows; ++r) {
      make_row_logits<V, true>(tile, v, r);
    }
  }
}

template <AttentionVariant V>
float finish_row(const void* mask, const void* params, const Position<>& at, float lse2, float* o, int32_t head_dim) {
  const V v = variant_of<V>(mask, params);
  float lse2_with_extra = lse2;
  if constexpr (HasExtraLogit<V>) {
    const Finalised<float> last = finalise<float>(v, lse2, at);
    lse2_with_extra = last.lse2_with_extra;
    for (int32_t d = 0; d < head_dim; ++d) {
      o[d] *= last.scale;
    }
  }
  if constexpr (HasTransformOutput<V>) {
    for (int32_t d = 0; d < head_dim; ++d) {
      o[d] = v.transform_output(o[d], at);
    }
  }
  return lse2_with_extra;
}

template <AttentionVariant V>
TileClass class_of(const void* mask, const Position<Interval>& tile) {
  return classify(*static_cast<const typename V::Mask*>(mask), tile);
}
template <AttentionVariant V>
void transform_query(const void* mask, const void* params, float* row, int32_t head_dim, const Position<>& at) {
  transform_query_row(variant_of<V>(mask, params), row, head_dim, at);
}
template <AttentionVariant V>
void transform_key(const void* mask, const void* params, float* row, int32_t head_dim, const Position<>& at) {
  transform_key_row(variant_of<V>(mask, params), row, head_dim, at);
}
template <AttentionVariant V>
void transform_value(const void* mask, const void* params, float* row, int32_t head_dim, const Position<>& at) {
  transform_value_row(variant_of<V>(mask, params), row, head_dim, at);
}

template <AttentionVariant V>
inline constexpr bool kAnswersForTiles = AnswersForTiles<typename V::Mask> && !kKeepsAll<typename V::Mask>;

template <AttentionVariant V>
inline constexpr VariantCode kVariantCodeOf{.make_logits = make_logits<V>,
                                            .finish_row = finish_row<V>,
                                            .class_of = kAnswersForTiles<V> ? class_of<V> : nullptr,
                                            .transform_query = HasTransformQuery<V> ? transform_query<V> : nullptr,
                                            .transform_key = HasTransformKey<V> ? transform_key<V> : nullptr,
                                            .transform_value = HasTransformValue<V> ? transform_value<V> : nullptr,
                                            .use_softmax = V::use_softmax,
                                            .scale_only = V::use_softmax && !HasTransformLogit<V>};

}  // namespace fovea::cpu::FOVEA_CPU_ISA
