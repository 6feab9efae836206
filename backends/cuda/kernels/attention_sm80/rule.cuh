// Which columns of a strip a warp's rows see, and what hooks make of its scores.
#pragma once

#include "backends/cuda/kernels/attention_sm80/compute.cuh"

namespace fovea::cuda::attention_sm80 {

/// What hooks and masks of a strip need.
template <Config C, class V>
struct StripRule {
  const V& v;
  const typename V::Mask& mask;
  const KvRange& range;
  const Row* rows;  // of the item, in shared memory
  const Columns& columns;
  const int32_t* positions;  // of the strip, where positions follow from storage
  const float* k_scale;      // of the strip, with token scales
  int32_t* seen;             // of the strip; null: every column of the tile is seen by some row
  int32_t first_column, kv_head;
  float scale;  // sm_scale * k scale

  __device__ __forceinline__ int32_t kv_pos(int32_t c) const {
    return columns.by_index ? positions[c] : columns.kv_pos + (first_column + c) * columns.kv_pos_stride;
  }
};

/// Is the scale left to take_logits()? Where no hook looks at logits: a product and a difference are one instruction there.
template <class V>
inline constexpr bool kScalesLate = V::use_softmax && !HasTransformLogit<V>;

/// Columns of a strip that a lane holds of every row; the i-th of them is column_of(place, i).
template <Config C>
inline constexpr int32_t kLaneCols = kStripCols<C> / 4;
template <Config C>
__device__ __forceinline__ int32_t column_of(const Place<C>& place, int32_t i) {
  return 4 * (i - i % 2) + 2 * place.j + i % 2;
}

/// Which of a lane's columns `keep` keeps for a row: bit i for the i-th.
template <Config C, class V>
__device__ __forceinline__ uint32_t kept_columns(const Place<C>& place, const StripRule<C, V>& rule, const Row& row) {
  uint32_t bits = 0;
#pragma unroll 4
  for (int32_t i = 0; i < kLaneCols<C>; ++i) {
    const int32_t c = column_of(place, i);
    bool visible = rule.first_column + c < row.col_end;
    if (visible) {
      const Position<> at = position_of(row, rule.kv_head, rule.kv_pos(c));
      visible = (!rule.columns.by_index || at.kv_pos < row.kv_len) && rule.mask.keep(at);
    }
    if (visible && rule.seen != nullptr) {
      rule.seen[c] = 1;
    }
    bits |= static_cast<uint32_t>(visible) << i;
  }
  return bits;
}

/// Bits of a lane's columns below column `end`; `first`: its first one.
template <Config C>
__device__ __forceinline__ uint32_t columns_below(int32_t end, int32_t first) {
  const int32_t distance = min_(max_(end - first, 0), kStripCols<C>);
  const int32_t count = distance / 8 * 2 + min_(distance % 8, 2);
  return (1u << count) - 1;
}

/// The same as kept_columns() from the closed form, where that says it all.
template <Config C, class V>
__device__ __forceinline__ uint32_t columns_in_range(const Place<C>& place, const StripRule<C, V>& rule, const Row& row) {
  const RowGroup stride{.num_cols = row.col_end, .kv_pos = rule.columns.kv_pos, .kv_pos_stride = rule.columns.kv_pos_stride};
  const SpanPair visible = columns_of(stride, positions_some_see(rule.range, row.q_pos, row.q_pos));
  const int32_t first = rule.first_column + 2 * place.j;
  return (columns_below<C>(visible.first.end, first) & ~columns_below<C>(visible.first.begin, first)) |
         (columns_below<C>(visible.second.end, first) & ~columns_below<C>(visible.second.begin, first));
}

/// Which of its columns this lane's rows see: kLaneCols bits a row. A mask's code is there once.
template <Config C, class V>
__device__ __forceinline__ uint64_t seen_bits(const Place<C>& place, const StripRule<C, V>& rule) {
  static_assert(2 * kRowTiles<C> * kLaneCols<C> <= 64 && kLaneCols<C> < 32, "a bit for every score of a lane");
  const bool closed = rule.range.exact != 0 && !rule.columns.by_index && rule.seen == nullptr;
  uint64_t bits = 0;
#pragma unroll 1
  for (int32_t i = 0; i < 2 * kRowTiles<C>; ++i) {
    const Row row = rule.rows[place.first_row + place.g + 8 * i];
    const uint32_t of_row = closed ? columns_in_range<C, V>(place, rule, row) : kept_columns<C, V>(place, rule, row);
    bits |= static_cast<uint64_t>(of_row) << (kLaneCols<C> * i);
  }
  return bits;
}

/// Dot products become logits, where kScalesLate still to be scaled (weights where the variant has no softmax). `full`: every row sees
/// every column.
template <Config C, class V>
__device__ __forceinline__ void apply_rule(const Place<C>& place, const StripRule<C, V>& rule, bool full, Scores<C>& scores) {
  constexpr float kUnseen = V::use_softmax ? -math::infinity<float>() : 0.0f;
  if constexpr (!kScalesLate<V> || C.token_scales != 0) {
#pragma unroll
    for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
      for (int32_t half = 0; half < 2; ++half) {
        const Row row = rule.rows[place.row(t, half)];
        // Found anew for every row: what all rows share about columns would take as many registers as there are columns.
        const int32_t first = static_cast<int32_t>(ptx::opaque(static_cast<uint32_t>(2 * place.j)));
#pragma unroll
        for (int32_t i = 0; i < kLaneCols<C>; ++i) {
          const int32_t c = first + 4 * (i - i % 2) + i % 2;
          float& x = scores[t][i / 2][2 * half + i % 2];
          if constexpr (!kScalesLate<V>) {
            x *= rule.scale;
          }
          if constexpr (C.token_scales != 0) {
            x *= rule.k_scale[c];
          }
          if constexpr (HasTransformLogit<V>) {
            x = transformed_logit(rule.v, x, position_of(row, rule.kv_head, rule.kv_pos(c)));
          }
        }
      }
    }
  }
  if (full) {
    return;
  }
  const uint64_t bits = seen_bits<C, V>(place, rule);
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
#pragma unroll
      for (int32_t i = 0; i < kLaneCols<C>; ++i) {
        float& x = scores[t][i / 2][2 * half + i % 2];
        x = (bits >> (kLaneCols<C> * (2 * t + half) + i) & 1u) != 0 ? x : kUnseen;
      }
    }
  }
}

}  // namespace fovea::cuda::attention_sm80
