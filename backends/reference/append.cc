// append_kv(): where each new token goes, and how it is quantised, one element at a time.
#include <algorithm>
#include <cmath>

#include "backends/reference/backend.h"
#include "portable/convert.h"

namespace fovea::reference {
namespace {

struct Place {
  int64_t page = -1;  // -1: the token is skipped
  int32_t slot = 0;
};

Place place_by_slot(const AppendParams& p, int32_t token) {
  const int64_t slot = p.slots_64 ? static_cast<const int64_t*>(p.slots)[token] : int64_t{static_cast<const int32_t*>(p.slots)[token]};
  return slot < 0 ? Place{} : Place{slot / p.cache.page_size, static_cast<int32_t>(slot % p.cache.page_size)};
}

/// A request's new tokens are the last of its kv_len.
Place place_by_request(const AppendParams& p, int32_t request, int32_t token, int32_t head) {
  const FormatView& f = p.tables;
  const int32_t entry = request * f.heads_per_set + (f.heads_per_set > 1 ? head : 0);
  const int32_t column = tokens_of_group(f, entry) - (p.append_indptr[request + 1] - token);
  const int64_t begin = f.page_indptr != nullptr ? int64_t{f.page_indptr[entry]}
                                                 : (f.table_rows != nullptr ? f.table_rows[entry] : entry) * f.table_row_stride;
  if (!f.has_table) {
    return {begin + column, 0};
  }
  return {p.table[begin + column / f.page_size], column % f.page_size};
}

/// The scale a token's row is divided by; written for KvQuant::token.
float scale_for(KvQuant quant, const CacheView& cache, const QView& in, int64_t in_row, int32_t head_dim, Place at, int32_t head) {
  const ScaleView& scale = cache.scale;
  if (quant == KvQuant::none) {
    return 1.0f;
  }
  if (scale.data == nullptr) {
    return scale.number;
  }
  float& stored = const_cast<float*>(scale.data)[at.page * scale.page_stride + at.slot * scale.token_stride + head * scale.head_stride];
  if (quant == KvQuant::token) {
    float largest = 0;
    for (int32_t i = 0; i < head_dim; ++i) {
      largest = std::max(largest, std::fabs(to_float(in.dtype, in.data, in_row + i)));
    }
    stored = scale_of_token(cache.dtype, largest);
  }
  return stored;
}

void write_row(KvQuant quant, const CacheView& cache, const QView& in, int32_t head_dim, int32_t token, Place at, int32_t head) {
  const int64_t in_row = token * in.token_stride + head * in.head_stride;
  const float scale = scale_for(quant, cache, in, in_row, head_dim, at, head);
  const int64_t row = at.page * cache.page_stride + at.slot * cache.token_stride + head * cache.head_stride;
  for (int32_t i = 0; i < head_dim; ++i) {
    from_float(cache.dtype, const_cast<void*>(cache.data), row + i, to_float(in.dtype, in.data, in_row + i) / scale);
  }
}

}  // namespace

void append_kv(const AppendParams& p) {
  int32_t request = 0;
  for (int32_t token = 0; token < p.num_tokens; ++token) {
    while (p.slots == nullptr && request < p.num_requests && token >= p.append_indptr[request + 1]) {
      ++request;
    }
    for (int32_t head = 0; head < p.num_kv_heads; ++head) {
      const Place at = p.slots != nullptr ? place_by_slot(p, token) : place_by_request(p, request, token, head);
      if (at.page >= 0) {
        write_row(p.quant, p.cache.k, p.k, p.head_dim_qk, token, at, head);
        write_row(p.quant, p.cache.v, p.v, p.head_dim_vo, token, at, head);
      }
    }
  }
}

}  // namespace fovea::reference
