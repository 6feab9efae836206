// Where an item's states go: merged over the warps or straight from registers, to output rows or partial states.
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/kernels/attention_sm80/tiles.cuh"

namespace fovea::cuda::attention_sm80 {

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

/// Rows of warps that had columns of their own: their states, merged in a fixed order, to where the item says.
template <Config C, class V>
__device__ __forceinline__ void merge_warps(const ItemWork<C, V>& work) {
  constexpr Layout kLayout = layout_of(C);
  const float* tops = reinterpret_cast<const float*>(work.shared + kLayout.top_sum);
  const float* sums = tops + C.warps_kv * C.tile_q;
  const float* out = reinterpret_cast<const float*>(work.shared + kLayout.ring);
  const ItemData<C>& data = work.data();
  const float v_scale = head_scale(work.kv().v.scale, data.source.kv_head);
  for (int32_t r = static_cast<int32_t>(threadIdx.x / 32); r < work.num_rows(); r += num_threads(C) / 32) {
    float weights[C.warps_kv];
    float top = -math::infinity<float>(), sum = 0.0f;
#pragma unroll
    for (int32_t w = 0; w < C.warps_kv; ++w) {
      top = fmaxf(top, tops[w * C.tile_q + r]);
    }
    const float base = top == -math::infinity<float>() ? 0.0f : top;
#pragma unroll
    for (int32_t w = 0; w < C.warps_kv; ++w) {
      weights[w] = V::use_softmax ? math::exp2(tops[w * C.tile_q + r] - base) : 1.0f;
      sum += weights[w] * sums[w * C.tile_q + r];
    }
    const bool empty = V::use_softmax && sum == 0.0f;  // NaN is no empty state
    const float factor = empty ? 0.0f : v_scale * (V::use_softmax ? 1.0f / sum : 1.0f);
    const float lse2 = empty ? -math::infinity<float>() : V::use_softmax ? top + math::log2(sum) : 0.0f;
    const auto o = [&](int32_t d) {
      float total = 0.0f;
#pragma unroll
      for (int32_t w = 0; w < C.warps_kv; ++w) {
        total += weights[w] * out[(w * C.tile_q + r) * out_row_floats(C) + d];
      }
      return total * factor;
    };
    write_row(work.params, work.v, data.item, data.format, work.rows()[r], r, o, lse2);
  }
}

/// What is left to do to a row, behind its queries in shared memory: rows there are padded.
struct alignas(16) RowEnd {
  void* o;  // null: no such row
  float scale;
  bool transformed;  // transform_output is still to come
};

template <Config C>
__device__ __forceinline__ char* place_of_row(char* shared, int32_t r) {
  return shared + layout_of(C).q + r * q_row_bytes(C);
}
template <Config C>
__device__ __forceinline__ RowEnd& end_of_row(char* shared, int32_t r) {
  static_assert(q_row_bytes(C) >= row_room(C) + static_cast<int32_t>(sizeof(RowEnd)), "in the padding");
  return *reinterpret_cast<RowEnd*>(place_of_row<C>(shared, r) + row_room(C));
}

/// A warp's rows, a lane each: their lse, and what is left to do. Sums and tops are where the ends will be.
template <Config C, class V>
__device__ __forceinline__ void end_rows(const ItemWork<C, V>& work, const Place<C>& place) {
  const ItemData<C>& data = work.data();
  const int32_t r = place.first_row + place.lane;
  if (place.lane >= 16 * kRowTiles<C>) {
    return;
  }
  RowEnd& end = end_of_row<C>(work.shared, r);
  if (r >= work.num_rows()) {
    end = {};
    return;
  }
  const float2 state = reinterpret_cast<const float2&>(end);
  const float sum = state.x, top = state.y;
  const bool empty = V::use_softmax && sum == 0.0f;  // NaN is no empty state
  const float factor = empty ? 0.0f : head_scale(work.kv().v.scale, data.source.kv_head) * (V::use_softmax ? 1.0f / sum : 1.0f);
  const float lse2 = empty ? -math::infinity<float>() : V::use_softmax ? top + math::log2(sum) : 0.0f;
  const RowTarget target = target_of_row(work.params, work.v, data.item, data.format, work.rows()[r], r, lse2);
  write_lse(target);
  end = {.o = target.o, .scale = target.scale * factor, .transformed = target.transformed};
}

/// Elements [first, first + kDims) of a warp's rows, finished in shared memory, to where they belong: 16 bytes a lane.
template <Config C, int32_t kBytes, int32_t kDims>
__device__ __forceinline__ void copy_rows_out(char* shared, const Place<C>& place, int32_t first, int32_t head_dim) {
  constexpr int32_t kElements = 16 / kBytes, kPieces = kDims / kElements;
#pragma unroll 2
  for (int32_t i = place.lane; i < 16 * kRowTiles<C> * kPieces; i += 32) {
    const int32_t r = place.first_row + i / kPieces;
    const int32_t d = first + i % kPieces * kElements;
    void* const o = end_of_row<C>(shared, r).o;
    const char* const from = place_of_row<C>(shared, r) + i % kPieces * 16;
    char* const to = static_cast<char*>(o) + d * kBytes;
    if (o == nullptr || d >= head_dim) {
      continue;
    }
    if ((reinterpret_cast<uint64_t>(to) & 15) == 0 && d + kElements <= head_dim) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
      continue;
    }
#pragma unroll 1
    for (int32_t byte = 0; byte < min_(16, (head_dim - d) * kBytes); byte += 2) {
      *reinterpret_cast<uint16_t*>(to + byte) = *reinterpret_cast<const uint16_t*>(from + byte);
    }
  }
}

/// A warp's finished rows as elements of type T, by way of their queries' place: as many elements at once as there is room for.
template <Config C, DType T>
__device__ __forceinline__ void write_finished(char* shared, const Place<C>& place, int32_t head_dim, const States<C>& states) {
  constexpr int32_t kBytes = row_of(T).bits / 8;
  constexpr int32_t kGroups = C.head_dim_vo / 16;  // two products each
  constexpr int32_t kAtOnce = min_(kGroups, row_room(C) / (16 * kBytes));
#pragma unroll
  for (int32_t begin = 0; begin < kGroups; begin += kAtOnce) {
    __syncwarp();  // Order: the queries, or the elements before, were read
#pragma unroll
    for (int32_t row = 0; row < 2 * kRowTiles<C>; ++row) {
      const int32_t t = row / 2, half = row % 2;
      char* const to = place_of_row<C>(shared, place.row(t, half));
#pragma unroll
      for (int32_t n = 0; n < 2 * kAtOnce; ++n) {
        const int32_t product = 2 * begin + n;
        if (product >= 2 * kGroups) {
          break;
        }
        // Elements d and d + 1 from `begin` on.
        const int32_t d = is_narrow(C.v) ? n / 2 * 16 + 4 * place.j + 2 * (n % 2) : 8 * n + 2 * place.j;
        const float first = is_narrow(C.v) ? states.o[t][product / 2 * 2][2 * half + n % 2] : states.o[t][product][2 * half];
        const float second = is_narrow(C.v) ? states.o[t][product / 2 * 2 + 1][2 * half + n % 2] : states.o[t][product][2 * half + 1];
        if constexpr (T == DType::f32) {
          *reinterpret_cast<float2*>(to + kBytes * d) = {first, second};
        } else {
          *reinterpret_cast<uint32_t*>(to + kBytes * d) = ptx::pack_pair<T>(first, second);
        }
      }
    }
    __syncwarp();
    copy_rows_out<C, kBytes, 16 * kAtOnce>(shared, place, 16 * begin, head_dim);
  }
}

/// Rows of warps that had all columns.
template <Config C, class V>
__device__ __forceinline__ void write_rows(const ItemWork<C, V>& work, const Place<C>& place, States<C>& states) {
  __syncwarp();  // Order: the warp's queries were read
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      float sum = states.sum[t][half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (place.j == 0) {
        reinterpret_cast<float2&>(end_of_row<C>(work.shared, place.row(t, half))) = {sum, states.top[t][half]};
      }
    }
  }
  __syncwarp();
  end_rows(work, place);
  __syncwarp();
#pragma unroll
  for (int32_t row = 0; row < 2 * kRowTiles<C>; ++row) {
    const int32_t t = row / 2, half = row % 2;
    const RowEnd end = end_of_row<C>(work.shared, place.row(t, half));
#pragma unroll
    for (int32_t i = 0; i < C.head_dim_vo / 4; ++i) {
      float& x = states.o[t][i / 2][2 * half + i % 2];
      x *= end.scale;
      if constexpr (HasTransformOutput<V>) {
        const Position<> at = position_of(work.rows()[place.row(t, half)], work.data().source.kv_head, 0);
        x = end.transformed ? transformed_output(work.v, x, at) : x;
      }
    }
  }
  if (C.o != DType::f32 && work.data().item.partial_slot == kFinal) {
    write_finished<C, C.o>(work.shared, place, work.params.head_dim_vo, states);
  } else {
    write_finished<C, DType::f32>(work.shared, place, work.params.head_dim_vo, states);
  }
}

}  // namespace fovea::cuda::attention_sm80
