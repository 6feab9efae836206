// What a warp computes on a kv tile: scores (q . k), weights (hooks, mask, online softmax), o += weights . v. A warp has kRowTiles tiles of
// 16 packed rows and kWarpCols columns of the tile. Lane l is g = l / 4, j = l % 4; it holds rows g and g + 8 of every 16.
#pragma once

#include "backends/cuda/device/ptx/mma.cuh"
#include "backends/cuda/kernels/attention_sm80/load.cuh"

namespace fovea::cuda::attention_sm80 {

template <Config C>
inline constexpr int32_t kRowTiles = C.tile_q / (16 * C.warps_q);
template <Config C>
inline constexpr int32_t kWarpCols = C.tile_kv / C.warps_kv;

/// Which rows and columns are this warp's and this lane's.
template <Config C>
struct Place {
  int32_t g, j, lane;
  int32_t first_row, first_col;  // of the warp
  __device__ __forceinline__ Place() {
    lane = static_cast<int32_t>(threadIdx.x % 32);
    g = lane / 4;
    j = lane % 4;
    const int32_t warp = static_cast<int32_t>(threadIdx.x / 32);
    first_row = warp % C.warps_q * 16 * kRowTiles<C>;
    first_col = warp / C.warps_q * kWarpCols<C>;
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

/// scores = q . k. `q` and `k` are shared addresses of the q tile and the k tile.
template <Config C>
__device__ __forceinline__ void multiply_keys(const Place<C>& place, uint32_t q, uint32_t k, Scores<C>& scores) {
  constexpr DType kType = qk_type(C);
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
      scores[t][n][0] = scores[t][n][1] = scores[t][n][2] = scores[t][n][3] = 0.0f;
    }
  }
  const int32_t l = place.lane;
  const uint32_t q_lane = q + (place.first_row + l % 16) * q_row_bytes(C) + 16 * (l / 16);
  // 16 bits: matrices (columns 0-7, elements 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15). 8 bits: (columns 0-7, elements 0-15), (8-15,
  // 0-15).
  const uint32_t k_lane = is_narrow(C.k) ? k + (place.first_col + l % 16) * k_row_bytes(C)
                                         : k + (place.first_col + l % 8 + 8 * (l / 16)) * k_row_bytes(C) + 16 * (l / 8 % 2);
#pragma unroll
  for (int32_t d = 0; d < C.head_dim_qk; d += 16) {
    uint32_t a[kRowTiles<C>][4];
#pragma unroll
    for (int32_t t = 0; t < kRowTiles<C>; ++t) {
      ptx::load_matrix_x4(a[t], q_lane + 16 * t * q_row_bytes(C) + 2 * d);
    }
#pragma unroll
    for (int32_t n = 0; n < kWarpCols<C>; n += 16) {
      uint32_t b[4];
      if constexpr (is_narrow(C.k)) {
        uint32_t bytes[2];
        ptx::load_matrix_x2(bytes, k_lane + n * k_row_bytes(C) + d);
        b[0] = ptx::widen_pair<C.k, kType>(bytes[0] & 0xffffu);
        b[1] = ptx::widen_pair<C.k, kType>(bytes[0] >> 16);
        b[2] = ptx::widen_pair<C.k, kType>(bytes[1] & 0xffffu);
        b[3] = ptx::widen_pair<C.k, kType>(bytes[1] >> 16);
      } else {
        ptx::load_matrix_x4(b, k_lane + n * k_row_bytes(C) + 2 * d);
      }
#pragma unroll
      for (int32_t t = 0; t < kRowTiles<C>; ++t) {
        ptx::multiply_add<kType>(scores[t][n / 8], a[t], b[0], b[1]);
        ptx::multiply_add<kType>(scores[t][n / 8 + 1], a[t], b[2], b[3]);
      }
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
  const int32_t* pages;  // of the tile
  const int32_t* slots;
  const float* k_scale;  // of the tile, with token scales
  int32_t* seen;         // null: every column of the tile is seen by some row
  int32_t first_column, kv_head;
  float scale;  // sm_scale * k scale; times log2(e) where no hook looks at logits

  __device__ __forceinline__ int32_t kv_pos(int32_t c) const {
    return columns.by_index ? kv_position(columns, 0, pages[c], slots[c]) : columns.kv_pos + (first_column + c) * columns.kv_pos_stride;
  }
};

/// Dot products become logits in base 2 (weights where the variant has no softmax). kMasked: some row may not see some column.
template <bool kMasked, Config C, class V>
__device__ __forceinline__ void apply_rule(const Place<C>& place, const TileRule<C, V>& rule, Scores<C>& scores) {
  constexpr float kUnseen = V::use_softmax ? -math::infinity<float>() : 0.0f;
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      const Row row = rule.rows[place.row(t, half)];
#pragma unroll
      for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
#pragma unroll
        for (int32_t e = 0; e < 2; ++e) {
          const int32_t c = place.first_col + 8 * n + 2 * place.j + e;
          float& x = scores[t][n][2 * half + e];
          x *= rule.scale;
          if constexpr (C.token_scales != 0) {
            x *= rule.k_scale[c];
          }
          if constexpr (HasTransformLogit<V>) {
            x = transformed_logit(rule.v, x, position_of(row, rule.kv_head, rule.kv_pos(c)));
            x = V::use_softmax ? x * math::kLog2e : x;
          }
          if constexpr (kMasked) {
            bool visible = rule.first_column + c < row.col_end;
            if (visible) {
              const Position<> at = position_of(row, rule.kv_head, rule.kv_pos(c));
              visible = (!rule.columns.by_index || at.kv_pos < row.kv_len) && rule.mask.keep(at);
            }
            if (visible && rule.seen != nullptr) {
              rule.seen[c] = 1;
            }
            x = visible ? x : kUnseen;
          }
        }
      }
    }
  }
}

__device__ __forceinline__ float max_of_quad(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/// Logits become weights in units of 2^top; states move to the new top.
template <Config C>
__device__ __forceinline__ void update_states(Scores<C>& scores, States<C>& states) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      float top = states.top[t][half];
#pragma unroll
      for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
        top = fmaxf(top, fmaxf(scores[t][n][2 * half], scores[t][n][2 * half + 1]));
      }
      top = max_of_quad(top);
      const float base = top == -math::infinity<float>() ? 0.0f : top;  // -inf - (-inf) is NaN
      const float keep = ptx::exp2_approx(states.top[t][half] - base);
      float sum = 0.0f;
#pragma unroll
      for (int32_t n = 0; n < kWarpCols<C> / 8; ++n) {
#pragma unroll
        for (int32_t e = 0; e < 2; ++e) {
          float& x = scores[t][n][2 * half + e];
          x = ptx::exp2_approx(x - base);
          sum += x;
        }
      }
      states.top[t][half] = top;
      states.sum[t][half] = states.sum[t][half] * keep + sum;
#pragma unroll
      for (int32_t n = 0; n < C.head_dim_vo / 8; ++n) {
        states.o[t][n][2 * half] *= keep;
        states.o[t][n][2 * half + 1] *= keep;
      }
    }
  }
}

/// o += weights . v. `v` is the shared address of the v tile; `v_scale` of its columns, with token scales.
template <Config C>
__device__ __forceinline__ void multiply_values(const Place<C>& place, uint32_t v, const float* v_scale, Scores<C>& scores,
                                                States<C>& states) {
  constexpr DType kType = pv_type(C);
  const int32_t l = place.lane;
  // Transposed. 16 bits: matrices (columns 0-7, elements 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15). 8 bits: (0-7, 0-15), (8-15, 0-15).
  const uint32_t v_lane = v + (place.first_col + l % 16) * v_row_bytes(C) + (is_narrow(C.v) ? 0 : 16 * (l / 16));
#pragma unroll
  for (int32_t c = 0; c < kWarpCols<C>; c += 16) {
    uint32_t a[kRowTiles<C>][4];
#pragma unroll
    for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
      for (int32_t i = 0; i < 4; ++i) {  // i: rows g, g + 8, g, g + 8 of columns 0-7, 0-7, 8-15, 8-15
        float first = scores[t][c / 8 + i / 2][2 * (i % 2)], second = scores[t][c / 8 + i / 2][2 * (i % 2) + 1];
        if constexpr (C.token_scales != 0) {
          const int32_t column = place.first_col + c + 8 * (i / 2) + 2 * place.j;
          first = first == 0.0f ? 0.0f : first * v_scale[column];  // what is not seen may have any scale
          second = second == 0.0f ? 0.0f : second * v_scale[column + 1];
        }
        a[t][i] = ptx::pack_pair<kType>(first, second);
      }
    }
#pragma unroll
    for (int32_t d = 0; d < C.head_dim_vo; d += 16) {
      uint32_t b[4];
      if constexpr (is_narrow(C.v)) {
        // Lane l gets elements 2 g and 2 g + 1 of columns 2 j and 2 j + 1: even elements make one product, odd ones another.
        uint32_t bytes[2];
        ptx::load_matrix_x2_transposed(bytes, v_lane + c * v_row_bytes(C) + d);
        b[0] = ptx::widen_pair<C.v, kType>(__byte_perm(bytes[0], 0, 0x4420));
        b[1] = ptx::widen_pair<C.v, kType>(__byte_perm(bytes[1], 0, 0x4420));
        b[2] = ptx::widen_pair<C.v, kType>(__byte_perm(bytes[0], 0, 0x4431));
        b[3] = ptx::widen_pair<C.v, kType>(__byte_perm(bytes[1], 0, 0x4431));
      } else {
        ptx::load_matrix_x4_transposed(b, v_lane + c * v_row_bytes(C) + 2 * d);
      }
#pragma unroll
      for (int32_t t = 0; t < kRowTiles<C>; ++t) {
        ptx::multiply_add<kType>(states.o[t][d / 8], a[t], b[0], b[1]);
        ptx::multiply_add<kType>(states.o[t][d / 8 + 1], a[t], b[2], b[3]);
      }
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
