// What a warp computes on a kv tile: scores (q . k), weights (hooks, mask, online softmax), o += weights . v. A warp has kRowTiles tiles of
// 16 packed rows and kWarpCols columns of the tile. Lane l is g = l / 4, j = l % 4; it holds rows g and g + 8 of every 16.
#pragma once

#include "backends/cuda/device/ptx/mma.cuh"
#include "backends/cuda/kernels/attention_sm80/load.cuh"

namespace fovea::cuda::attention_sm80 {

/// Which rows and columns are this warp's and this lane's.
template <Config C>
struct Place {
  int32_t g, j, lane;
  int32_t warp_q, first_row, first_col;  // of the warp
  __device__ __forceinline__ Place() {
    const uint32_t thread = ptx::thread_index();
    lane = static_cast<int32_t>(thread % 32);
    g = static_cast<int32_t>(thread % 32 / 4);
    j = static_cast<int32_t>(thread % 4);
    warp_q = C.warps_q == 1 ? 0 : static_cast<int32_t>(thread / 32 % C.warps_q);
    first_row = warp_q * 16 * kRowTiles<C>;
    first_col = C.warps_kv == 1 ? 0 : static_cast<int32_t>(thread / (32 * C.warps_q)) * kWarpCols<C>;
  }
  __device__ __forceinline__ int32_t row(int32_t row_tile, int32_t half) const { return first_row + 16 * row_tile + g + 8 * half; }
};

/// The rows' states: o and sum in units of 2^top (base 2). Sums are of this lane's columns alone until reduce_sums().
template <Config C>
struct States {
  float o[kRowTiles<C>][C.head_dim_vo / 8][4];
  float top[kRowTiles<C>][2], sum[kRowTiles<C>][2];
};

template <Config C>
using Scores = float[kRowTiles<C>][kWarpCols<C> / 8][4];

template <Config C>
__device__ __forceinline__ void clear(States<C>& states) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t n = 0; n < C.head_dim_vo / 8; ++n) {
      states.o[t][n][0] = states.o[t][n][1] = states.o[t][n][2] = states.o[t][n][3] = 0.0f;
    }
    states.top[t][0] = states.top[t][1] = -math::infinity<float>();
    states.sum[t][0] = states.sum[t][1] = 0.0f;
  }
}

/// Are a warp's queries kept in registers? Beside o and scores, where they fit.
template <Config C>
inline constexpr bool kKeepsQueries = kRowTiles<C> * (C.head_dim_vo / 2 + kWarpCols<C> / 2 + C.head_dim_qk / 4) <= 200;

template <Config C>
struct Queries {
  uint32_t a[kKeepsQueries<C> ? C.head_dim_qk / 16 : 1][kRowTiles<C>][4];

  /// What this lane gives to ldmatrix. `q`: shared address of the q tile.
  __device__ __forceinline__ static uint32_t address(const Place<C>& place, uint32_t q) {
    const uint32_t l = static_cast<uint32_t>(place.lane);
    return q + (place.first_row + l % 16) * q_row_bytes(C) + 16 * (l / 16);
  }
  __device__ __forceinline__ static void load(uint32_t (&to)[kRowTiles<C>][4], uint32_t address, int32_t d) {
#pragma unroll
    for (int32_t t = 0; t < kRowTiles<C>; ++t) {
      ptx::load_matrix_x4(to[t], address + 16 * t * q_row_bytes(C) + 2 * d);
    }
  }
  /// The queries are there.
  __device__ __forceinline__ void begin(const Place<C>& place, uint32_t q) {
    if constexpr (kKeepsQueries<C>) {
#pragma unroll
      for (int32_t d = 0; d < C.head_dim_qk; d += 16) {
        load(a[d / 16], address(place, q), d);
      }
    }
  }
};

/// 16 keys x 16 elements, or 16 values x 16 elements, as ldmatrix gives them.
template <DType T>
struct Piece {
  uint32_t bits[is_narrow(T) ? 2 : 4];
};

/// scores = q . k. `q_tile` and `k` are shared addresses of the q tile and the k tile. Fragments are asked for a step before they are
/// multiplied.
template <Config C>
__device__ __forceinline__ void multiply_keys(const Place<C>& place, const Queries<C>& queries, uint32_t q_tile, uint32_t k,
                                              Scores<C>& scores) {
  constexpr DType kType = qk_type(C);
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
      scores[t][n][0] = scores[t][n][1] = scores[t][n][2] = scores[t][n][3] = 0.0f;
    }
  }
  const uint32_t l = static_cast<uint32_t>(place.lane);
  // 16 bits: matrices (columns 0-7, elements 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15). 8 bits: (columns 0-7, elements 0-15), (8-15,
  // 0-15).
  const uint32_t k_lane = is_narrow(C.k) ? k + (place.first_col + l % 16) * k_row_bytes(C)
                                         : k + (place.first_col + l % 8 + 8 * (l / 16)) * k_row_bytes(C) + 16 * (l / 8 % 2);
  const uint32_t q_lane = Queries<C>::address(place, q_tile);
  constexpr int32_t kColumnSteps = kWarpCols<C> / 16;
  constexpr int32_t kSteps = C.head_dim_qk / 16 * kColumnSteps;
  Piece<C.k> keys[2];
  uint32_t q[2][kRowTiles<C>][4];
  const auto load = [&](int32_t step) {
    const int32_t d = step / kColumnSteps * 16, n = step % kColumnSteps * 16;
    if constexpr (!kKeepsQueries<C>) {
      if (n == 0) {
        Queries<C>::load(q[step / kColumnSteps % 2], q_lane, d);
      }
    }
    if constexpr (is_narrow(C.k)) {
      ptx::load_matrix_x2(keys[step % 2].bits, k_lane + n * k_row_bytes(C) + d);
    } else {
      ptx::load_matrix_x4(keys[step % 2].bits, k_lane + n * k_row_bytes(C) + 2 * d);
    }
  };
  load(0);
#pragma unroll
  for (int32_t step = 0; step < kSteps; ++step) {
    if (step + 1 < kSteps) {
      load(step + 1);
    }
    const auto& bits = keys[step % 2].bits;
    uint32_t b[4];
    if constexpr (is_narrow(C.k)) {
      b[0] = ptx::widen_pair<C.k, kType>(bits[0] & 0xffffu);
      b[1] = ptx::widen_pair<C.k, kType>(bits[0] >> 16);
      b[2] = ptx::widen_pair<C.k, kType>(bits[1] & 0xffffu);
      b[3] = ptx::widen_pair<C.k, kType>(bits[1] >> 16);
    } else {
      b[0] = bits[0], b[1] = bits[1], b[2] = bits[2], b[3] = bits[3];
    }
    const int32_t n = step % kColumnSteps * 2;
    const auto& a = kKeepsQueries<C> ? queries.a[kKeepsQueries<C> ? step / kColumnSteps : 0] : q[step / kColumnSteps % 2];
#pragma unroll
    for (int32_t t = 0; t < kRowTiles<C>; ++t) {
      ptx::multiply_add<kType>(scores[t][n], a[t], b[0], b[1]);
      ptx::multiply_add<kType>(scores[t][n + 1], a[t], b[2], b[3]);
    }
  }
}

/// What hooks and masks of a kv tile need.
template <Config C, class V>
struct TileRule {
  const V& v;
  const typename V::Mask& mask;
  const Row* rows;  // of the item, in shared memory
  const Columns& columns;
  const int32_t* positions;  // of the tile, where positions follow from storage
  const float* k_scale;      // of the tile, with token scales
  int32_t* seen;             // null: every column of the tile is seen by some row
  int32_t first_column, kv_head;
  float scale;  // sm_scale * k scale

  __device__ __forceinline__ int32_t kv_pos(int32_t c) const {
    return columns.by_index ? positions[c] : columns.kv_pos + (first_column + c) * columns.kv_pos_stride;
  }
};

/// Is the scale left to update_states? Where no hook looks at logits: a product and a difference are one instruction there.
template <class V>
inline constexpr bool kScalesLate = V::use_softmax && !HasTransformLogit<V>;

/// Which of this lane's columns a row sees: bit 2 n + e is element e of product n.
template <Config C, class V>
__device__ __forceinline__ uint32_t seen_columns(const Place<C>& place, const TileRule<C, V>& rule, const Row& row) {
  static_assert(kWarpCols<C> / 4 <= 32, "a bit for every column of a lane; see select.cc");
  uint32_t bits = 0;
#pragma unroll 4
  for (int32_t i = 0; i < kWarpCols<C> / 4; ++i) {
    const int32_t c = place.first_col + 4 * (i - i % 2) + 2 * place.j + i % 2;
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

/// Dot products become logits, where kScalesLate still to be scaled (weights where the variant has no softmax). `full`: every row sees
/// every column.
template <Config C, class V>
__device__ __forceinline__ void apply_rule(const Place<C>& place, const TileRule<C, V>& rule, bool full, Scores<C>& scores) {
  constexpr float kUnseen = V::use_softmax ? -math::infinity<float>() : 0.0f;
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      if constexpr (!kScalesLate<V> || C.token_scales != 0) {
        const Row row = rule.rows[place.row(t, half)];
#pragma unroll
        for (int32_t i = 0; i < kWarpCols<C> / 4; ++i) {
          const int32_t c = place.first_col + 4 * (i - i % 2) + 2 * place.j + i % 2;
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
      if (!full) {
        const uint32_t bits = seen_columns(place, rule, rule.rows[place.row(t, half)]);
#pragma unroll
        for (int32_t i = 0; i < kWarpCols<C> / 4; ++i) {
          float& x = scores[t][i / 2][2 * half + i % 2];
          x = (bits >> i & 1u) != 0 ? x : kUnseen;
        }
      }
    }
  }
}

__device__ __forceinline__ float max_of_quad(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/// Weights of a warp's columns as mma takes them: rows g, g + 8, g, g + 8 of columns 0-7, 0-7, 8-15, 8-15 of every 16.
template <Config C>
using Weights = uint32_t[kWarpCols<C> / 16][kRowTiles<C>][4];

/// Weights of products n, rounded; times the scales of their values, with token scales (`v_scale`: of the tile's columns).
template <Config C>
__device__ __forceinline__ uint32_t pack_weights(const Place<C>& place, int32_t n, const float* v_scale, float first, float second) {
  if constexpr (C.token_scales != 0) {
    const int32_t column = place.first_col + 8 * n + 2 * place.j;
    first = first == 0.0f ? 0.0f : first * v_scale[column];  // what is not seen may have any scale
    second = second == 0.0f ? 0.0f : second * v_scale[column + 1];
  }
  return ptx::pack_pair<pv_type(C)>(first, second);
}

/// States move to the tops of logits times `scale` (positive). Mostly no row of the warp has a new one.
template <Config C>
__device__ __forceinline__ void raise_tops(float scale, const Scores<C>& scores, States<C>& states) {
  float tops[kRowTiles<C>][2];
  bool raised = false;
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      float top = scores[t][0][2 * half];
#pragma unroll
      for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
        top = fmaxf(top, fmaxf(scores[t][n][2 * half], scores[t][n][2 * half + 1]));
      }
      tops[t][half] = max_of_quad(top) * scale;
      raised = raised || tops[t][half] > states.top[t][half];
    }
  }
  if (!__any_sync(0xffffffffu, raised)) {
    return;
  }
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      const float top = fmaxf(states.top[t][half], tops[t][half]);
      const float keep = top == -math::infinity<float>() ? 1.0f : ptx::exp2_approx(states.top[t][half] - top);  // -inf - (-inf) is NaN
      states.top[t][half] = top;
      states.sum[t][half] *= keep;
#pragma unroll
      for (int32_t n = 0; n < C.head_dim_vo / 8; ++n) {
        states.o[t][n][2 * half] *= keep;
        states.o[t][n][2 * half + 1] *= keep;
      }
    }
  }
}

/// Logits times `scale` become weights in units of 2^top.
template <Config C>
__device__ __forceinline__ void make_weights(const Place<C>& place, float scale, const float* v_scale, const Scores<C>& scores,
                                             States<C>& states, Weights<C>& weights) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      const float base = states.top[t][half] == -math::infinity<float>() ? 0.0f : states.top[t][half];
#pragma unroll
      for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
        const float first = ptx::exp2_approx(fmaf(scores[t][n][2 * half], scale, -base));
        const float second = ptx::exp2_approx(fmaf(scores[t][n][2 * half + 1], scale, -base));
        states.sum[t][half] += first + second;
        weights[n / 2][t][n % 2 * 2 + half] = pack_weights<C>(place, n, v_scale, first, second);
      }
    }
  }
}

/// Without softmax logits are weights.
template <Config C>
__device__ __forceinline__ void take_weights(const Place<C>& place, const float* v_scale, const Scores<C>& scores, Weights<C>& weights) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
      weights[n / 2][t][n % 2 * 2] = pack_weights<C>(place, n, v_scale, scores[t][n][0], scores[t][n][1]);
      weights[n / 2][t][n % 2 * 2 + 1] = pack_weights<C>(place, n, v_scale, scores[t][n][2], scores[t][n][3]);
    }
  }
}

/// o += weights . v. `v` is the shared address of the v tile.
template <Config C>
__device__ __forceinline__ void multiply_values(const Place<C>& place, uint32_t v, const Weights<C>& weights, States<C>& states) {
  constexpr DType kType = pv_type(C);
  const uint32_t l = static_cast<uint32_t>(place.lane);
  // Transposed. 16 bits: matrices (columns 0-7, elements 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15). 8 bits: (0-7, 0-15), (8-15, 0-15).
  const uint32_t v_lane = v + (place.first_col + l % 16) * v_row_bytes(C) + (is_narrow(C.v) ? 0 : 16 * (l / 16));
  constexpr int32_t kDimSteps = C.head_dim_vo / 16;
  constexpr int32_t kSteps = kWarpCols<C> / 16 * kDimSteps;
  Piece<C.v> values[2];
  const auto load = [&](int32_t step) {
    const int32_t c = step / kDimSteps * 16, d = step % kDimSteps * 16;
    if constexpr (is_narrow(C.v)) {
      ptx::load_matrix_x2_transposed(values[step % 2].bits, v_lane + c * v_row_bytes(C) + d);
    } else {
      ptx::load_matrix_x4_transposed(values[step % 2].bits, v_lane + c * v_row_bytes(C) + 2 * d);
    }
  };
  load(0);
#pragma unroll
  for (int32_t step = 0; step < kSteps; ++step) {
    if (step + 1 < kSteps) {
      load(step + 1);
    }
    const auto& bits = values[step % 2].bits;
    uint32_t b[4];
    if constexpr (is_narrow(C.v)) {
      // Lane l gets elements 2 g and 2 g + 1 of columns 2 j and 2 j + 1: even elements make one product, odd ones another.
      b[0] = ptx::widen_pair<C.v, kType>(__byte_perm(bits[0], 0, 0x4420));
      b[1] = ptx::widen_pair<C.v, kType>(__byte_perm(bits[1], 0, 0x4420));
      b[2] = ptx::widen_pair<C.v, kType>(__byte_perm(bits[0], 0, 0x4431));
      b[3] = ptx::widen_pair<C.v, kType>(__byte_perm(bits[1], 0, 0x4431));
    } else {
      b[0] = bits[0], b[1] = bits[1], b[2] = bits[2], b[3] = bits[3];
    }
    const int32_t n = step % kDimSteps * 2;
#pragma unroll
    for (int32_t t = 0; t < kRowTiles<C>; ++t) {
      ptx::multiply_add<kType>(states.o[t][n], weights[step / kDimSteps][t], b[0], b[1]);
      ptx::multiply_add<kType>(states.o[t][n + 1], weights[step / kDimSteps][t], b[2], b[3]);
    }
  }
}

/// Element of o that place e (0 or 1) of product n holds.
template <Config C>
__device__ __forceinline__ int32_t element_of(const Place<C>& place, int32_t n, int32_t e) {
  return is_narrow(C.v) ? n / 2 * 16 + 4 * place.j + 2 * e + n % 2 : 8 * n + 2 * place.j + e;
}

/// The warp's states into shared memory: `out` [tile_q][out_row_floats] and `top`, `sum` [tile_q] of its share of the columns.
template <Config C>
__device__ __forceinline__ void store_states(const Place<C>& place, const States<C>& states, float* out, float* top, float* sum) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      float total = states.sum[t][half];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const int32_t row = place.row(t, half);
      if (place.j == 0) {
        top[row] = states.top[t][half];
        sum[row] = total;
      }
#pragma unroll
      for (int32_t n = 0; n < C.head_dim_vo / 8; ++n) {
        out[row * out_row_floats(C) + element_of(place, n, 0)] = states.o[t][n][2 * half];
        out[row * out_row_floats(C) + element_of(place, n, 1)] = states.o[t][n][2 * half + 1];
      }
    }
  }
}

}  // namespace fovea::cuda::attention_sm80
