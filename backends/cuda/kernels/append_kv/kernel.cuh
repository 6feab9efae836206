// append_kv: new tokens into a cache. One warp a (token, kv head); the same bits as on any backend: round to nearest even of value / scale.
#pragma once

#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/kernels/append_kv/params.h"
#include "portable/convert.h"

namespace fovea::cuda::append_kv {

struct Place {
  int64_t page;  // -1: the token is skipped
  int32_t slot;
};

/// The request that new token `token` belongs to: the last that begins at or before it and is not empty.
__device__ __forceinline__ int32_t request_of_token(const Params& params, int32_t token) {
  int32_t lo = 0, hi = params.num_requests;
  while (hi - lo > 1) {
    const int32_t mid = lo + (hi - lo) / 2;
    (params.append_indptr[mid] <= token ? lo : hi) = mid;
  }
  return lo;
}

/// The new tokens of a request are the last of its kv_len.
__device__ __forceinline__ Place place_by_request(const Params& params, int32_t token) {
  const FormatView& f = params.tables;
  const int32_t request = request_of_token(params, token);
  const int32_t column = tokens_of_group(f, request) - (params.append_indptr[request + 1] - token);
  if (column < 0) {
    return {-1, 0};
  }
  const int64_t begin = f.page_indptr != nullptr ? static_cast<int64_t>(f.page_indptr[request])
                                                 : (f.table_rows != nullptr ? f.table_rows[request] : request) * f.table_row_stride;
  return {params.table[begin + column / f.page_size], column % f.page_size};
}

__device__ __forceinline__ Place place_by_slot(const Params& params, int32_t token) {
  const int64_t slot =
      params.slots_64 ? static_cast<const int64_t*>(params.slots)[token] : static_cast<const int32_t*>(params.slots)[token];
  return slot < 0 ? Place{-1, 0} : Place{slot / params.cache.page_size, static_cast<int32_t>(slot % params.cache.page_size)};
}

/// The number stored values are divided by. With a scale per token it is chosen here and written beside the row.
__device__ __forceinline__ float scale_of_row(const Params& params, const CacheView& cache, const QView& in, int64_t row, int32_t head_dim,
                                              Place at, int32_t head) {
  const ScaleView& scale = cache.scale;
  if (params.quant == Quant::none) {
    return 1.0f;
  }
  if (scale.data == nullptr) {
    return scale.number;
  }
  const int64_t index = at.page * scale.page_stride + at.slot * scale.token_stride + head * scale.head_stride;
  if (params.quant != Quant::token) {
    return scale.data[index];
  }
  float largest = 0.0f;
  for (int32_t d = static_cast<int32_t>(threadIdx.x % 32); d < head_dim; d += 32) {
    largest = fmaxf(largest, fabsf(to_float(in.dtype, in.data, row + d)));
  }
  // Magnitudes are not negative: as integers they are in the same order.
  largest = math::bits_to_float(__reduce_max_sync(0xffffffffu, math::float_to_bits(largest)));
  const float chosen = scale_of_token(cache.dtype, largest);
  if (threadIdx.x % 32 == 0) {
    const_cast<float*>(scale.data)[index] = chosen;
  }
  return chosen;
}

__device__ __forceinline__ void write_row(const Params& params, const CacheView& cache, const QView& in, int32_t head_dim, int32_t token,
                                          Place at, int32_t head) {
  const int64_t from = token * in.token_stride + head * in.head_stride;
  const int64_t to = at.page * cache.page_stride + at.slot * cache.token_stride + head * cache.head_stride;
  const float scale = scale_of_row(params, cache, in, from, head_dim, at, head);
  const bool copies = in.dtype == cache.dtype && scale == 1.0f;
  for (int32_t d = static_cast<int32_t>(threadIdx.x % 32); d < head_dim; d += 32) {
    if (copies && row_of(in.dtype).bits == 16) {
      static_cast<uint16_t*>(const_cast<void*>(cache.data))[to + d] = static_cast<const uint16_t*>(in.data)[from + d];
    } else {
      const float x = to_float(in.dtype, in.data, from + d);
      from_float(cache.dtype, const_cast<void*>(cache.data), to + d, copies ? x : x / scale);
    }
  }
}

__device__ __forceinline__ void append(const Params& params) {
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const int64_t count = static_cast<int64_t>(params.num_tokens) * params.num_kv_heads;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32; i < count; i += step) {
    const int32_t token = static_cast<int32_t>(i / params.num_kv_heads);
    const int32_t head = static_cast<int32_t>(i - static_cast<int64_t>(token) * params.num_kv_heads);
    const Place at = params.slots != nullptr ? place_by_slot(params, token) : place_by_request(params, token);
    if (at.page >= 0 && at.page < params.num_pages) {
      write_row(params, params.cache.k, params.k, params.head_dim_qk, token, at, head);
      write_row(params, params.cache.v, params.v, params.head_dim_vo, token, at, head);
    }
  }
}

}  // namespace fovea::cuda::append_kv
