// What a warp computes on a strip of kStripCols columns: scores (q . k), weights (online softmax), o += weights . v. A warp has kRowTiles
// tiles of 16 packed rows and one or more strips of a kv tile. Lane l is g = l / 4, j = l % 4; it holds rows g and g + 8 of every 16.
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

/// Of a strip.
template <Config C>
using Scores = float[kRowTiles<C>][kStripCols<C> / 8][4];

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

/// Are a warp's queries kept in registers? Beside o and the scores of two strips, where they fit.
template <Config C>
inline constexpr bool kKeepsQueries = kRowTiles<C> * (C.head_dim_vo / 2 + kStripCols<C> + C.head_dim_qk / 4) <= 204;

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

/// scores = q . k of a strip. `q_tile` and `k` are shared addresses of the q tile and the strip's first key. Fragments are asked for a step
/// before they are multiplied. between(step, steps) is what else there is to do meanwhile, a part of it after every step's products.
template <Config C, class Between>
__device__ __forceinline__ void multiply_keys(const Place<C>& place, const Queries<C>& queries, uint32_t q_tile, uint32_t k,
                                              Scores<C>& scores, const Between& between) {
  constexpr DType kType = qk_type(C);
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t n = 0; n < kStripCols<C> / 8; ++n) {
      scores[t][n][0] = scores[t][n][1] = scores[t][n][2] = scores[t][n][3] = 0.0f;
    }
  }
  const uint32_t l = static_cast<uint32_t>(place.lane);
  // 16 bits: matrices (columns 0-7, elements 0-7), (0-7, 8-15), (8-15, 0-7), (8-15, 8-15). 8 bits: (columns 0-7, elements 0-15), (8-15,
  // 0-15).
  const uint32_t k_lane = is_narrow(C.k) ? k + l % 16 * k_row_bytes(C) : k + (l % 8 + 8 * (l / 16)) * k_row_bytes(C) + 16 * (l / 8 % 2);
  const uint32_t q_lane = Queries<C>::address(place, q_tile);
  constexpr int32_t kColumnSteps = kStripCols<C> / 16;
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
    between(step, kSteps);
  }
}

__device__ __forceinline__ float max_of_quad(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

/// Pairs of neighbouring columns of a strip that a lane holds, numbered so that those that are used together come together.
template <Config C>
inline constexpr int32_t kPairs = 2 * kRowTiles<C> * (kStripCols<C> / 8);

struct Pair {
  int32_t n, t, half;  // elements 2 half and 2 half + 1 of product n of row tile t
};
template <Config C>
__device__ __forceinline__ constexpr Pair pair_at(int32_t i) {
  return {.n = i / (2 * kRowTiles<C>), .t = i / 2 % kRowTiles<C>, .half = i % 2};
}

/// Calls each(i) for step `step`'s share of [0, kCount), which `steps` steps go through. Both are constants once loops are unrolled.
template <int32_t kCount, class Each>
__device__ __forceinline__ void share_of_step(int32_t step, int32_t steps, const Each& each) {
  const int32_t every = max_(1, steps / kCount);  // steps with something to do
  const int32_t at_once = ceil_div(kCount, steps);
  if (step % every != 0) {
    return;
  }
#pragma unroll
  for (int32_t i = 0; i < at_once; ++i) {
    if (step / every * at_once + i < kCount) {
      each(step / every * at_once + i);
    }
  }
}

/// Weights of a strip as mma takes them: rows g, g + 8, g, g + 8 of columns 0-7, 0-7, 8-15, 8-15 of every 16.
template <Config C>
using Weights = uint32_t[kStripCols<C> / 16][kRowTiles<C>][4];

/// A pair of weights, rounded; times the scales of their values, with token scales (`v_scale`: of the strip's columns).
template <Config C>
__device__ __forceinline__ uint32_t pack_weights(const Place<C>& place, int32_t n, const float* v_scale, float first, float second) {
  if constexpr (C.token_scales != 0) {
    const int32_t column = 8 * n + 2 * place.j;
    first = first == 0.0f ? 0.0f : first * v_scale[column];  // what is not seen may have any scale
    second = second == 0.0f ? 0.0f : second * v_scale[column + 1];
  }
  return ptx::pack_pair<pv_type(C)>(first, second);
}

/// The i-th pair of logits, in units of 2^top (without softmax: weights), becomes weights.
template <Config C, class V>
__device__ __forceinline__ void make_weights(const Place<C>& place, int32_t i, const float* v_scale, const Scores<C>& logits,
                                             States<C>& states, Weights<C>& weights) {
  const Pair at = pair_at<C>(i);
  float first = logits[at.t][at.n][2 * at.half], second = logits[at.t][at.n][2 * at.half + 1];
  if constexpr (V::use_softmax) {
    first = ptx::exp2_approx(first);
    second = ptx::exp2_approx(second);
    states.sum[at.t][at.half] += first + second;
  }
  weights[at.n / 2][at.t][at.n % 2 * 2 + at.half] = pack_weights<C>(place, at.n, v_scale, first, second);
}

/// Largest of the scores of every row.
template <Config C>
using Tops = float[kRowTiles<C>][2];

template <Config C>
__device__ __forceinline__ void clear(Tops<C>& tops) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
    tops[t][0] = tops[t][1] = -math::infinity<float>();
  }
}

template <Config C>
__device__ __forceinline__ void raise_top(int32_t i, const Scores<C>& scores, Tops<C>& tops) {
  const Pair at = pair_at<C>(i);
  tops[at.t][at.half] = fmaxf(tops[at.t][at.half], fmaxf(scores[at.t][at.n][2 * at.half], scores[at.t][at.n][2 * at.half + 1]));
}

template <Config C>
__device__ __forceinline__ void spread_tops(Tops<C>& tops) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
    tops[t][0] = max_of_quad(tops[t][0]);
    tops[t][1] = max_of_quad(tops[t][1]);
  }
}

/// A row's weights are in units of 2^top of some of its columns: it moves to a new top only when that is kSlack above, so that o is rarely
/// rescaled. Weights then reach 2^kSlack, which any type holds. Each row decides for itself: the rows beside it change nothing.
inline constexpr float kSlack = 8.0f;

/// States move to the tops of scores times `scale` (positive).
template <Config C>
__device__ __forceinline__ void raise_states(float scale, const Tops<C>& tops, States<C>& states) {
  bool raised = false;
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      raised = raised || tops[t][half] * scale > states.top[t][half] + kSlack;
    }
  }
  if (!__any_sync(0xffffffffu, raised)) {
    return;
  }
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      const float top = tops[t][half] * scale;
      if (top > states.top[t][half] + kSlack) {
        const float keep = ptx::exp2_approx(states.top[t][half] - top);
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
}

/// logits = scores times `scale` in units of 2^top; without softmax the scores.
template <Config C, class V>
__device__ __forceinline__ void take_logits(float scale, const Scores<C>& scores, const States<C>& states, Scores<C>& logits) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      const float base = states.top[t][half] == -math::infinity<float>() ? 0.0f : states.top[t][half];
#pragma unroll
      for (int32_t n = 0; n < kStripCols<C> / 8; ++n) {
#pragma unroll
        for (int32_t e = 2 * half; e < 2 * half + 2; ++e) {
          logits[t][n][e] = V::use_softmax ? fmaf(scores[t][n][e], scale, -base) : scores[t][n][e];
        }
      }
    }
  }
}

/// A strip that nobody needs: weights of 0.
template <Config C, class V>
__device__ __forceinline__ void drop_logits(Scores<C>& logits) {
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t n = 0; n < kStripCols<C> / 8; ++n) {
      logits[t][n][0] = logits[t][n][1] = logits[t][n][2] = logits[t][n][3] = V::use_softmax ? -math::infinity<float>() : 0.0f;
    }
  }
}

/// o += weights . v. `v` is the shared address of the strip's first value. between(step, steps) as in multiply_keys().
template <Config C, class Between>
__device__ __forceinline__ void multiply_values(const Place<C>& place, uint32_t v, const Weights<C>& weights, States<C>& states,
                                                const Between& between) {
  constexpr DType kType = pv_type(C);
  const uint32_t l = static_cast<uint32_t>(place.lane);
  // Transposed. 16 bits: matrices (columns 0-7, elements 0-7), (8-15, 0-7), (0-7, 8-15), (8-15, 8-15). 8 bits: (0-7, 0-15), (8-15, 0-15).
  const uint32_t v_lane = v + l % 16 * v_row_bytes(C) + (is_narrow(C.v) ? 0 : 16 * (l / 16));
  constexpr int32_t kDimSteps = C.head_dim_vo / 16;
  constexpr int32_t kSteps = kStripCols<C> / 16 * kDimSteps;
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
    between(step, kSteps);
  }
}

}  // namespace fovea::cuda::attention_sm80
