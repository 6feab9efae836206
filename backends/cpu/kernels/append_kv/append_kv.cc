#include "backends/cpu/kernels/append_kv/append_kv.h"

#include <cmath>
#include <cstring>

#include "portable/convert.h"

namespace fovea::cpu {
namespace {

constexpr std::int64_t kTokensPerTicket = 8;

struct Place {
  std::int64_t page;
  std::int32_t slot;
};

/// The request that new token `token` belongs to: the last that begins at or before it and is not empty.
std::int32_t request_of_token(const AppendParams& params, std::int32_t token) {
  std::int32_t lo = 0, hi = params.num_requests;
  while (hi - lo > 1) {
    const std::int32_t mid = lo + (hi - lo) / 2;
    (params.append_indptr[mid] <= token ? lo : hi) = mid;
  }
  return lo;
}

/// Where the token goes: the new tokens of a request are the last of its kv_len.
Place place_by_request(const AppendParams& params, std::int32_t request, std::int32_t token, std::int32_t kv_head) {
  const FormatView& f = params.tables;
  const std::int32_t entry = request * f.heads_per_set + (f.heads_per_set > 1 ? kv_head : 0);
  const std::int32_t column = tokens_of_group(f, entry) - (params.append_indptr[request + 1] - token);
  const std::int64_t begin = f.page_indptr != nullptr ? std::int64_t{f.page_indptr[entry]}
                                                      : (f.table_rows != nullptr ? f.table_rows[entry] : entry) * f.table_row_stride;
  if (!f.has_table) {
    return {.page = begin + column, .slot = 0};
  }
  return {.page = params.table[begin + column / f.page_size], .slot = column % f.page_size};
}

/// One row of K or V on its way.
struct Row {
  DType from, to;
  const void* in;
  std::int64_t in_element;
  void* out;
  std::int64_t out_element;
  std::int32_t head_dim;
};

float largest_magnitude(const Row& row) {
  float largest = 0.0f;
  for (std::int32_t i = 0; i < row.head_dim; ++i) {
    largest = std::fmax(largest, std::fabs(to_float(row.from, row.in, row.in_element + i)));
  }
  return largest;
}

void write_row(const Row& row, float scale) {
  if (row.from == row.to && scale == 1.0f) {
    const std::int64_t bytes = bytes_of(row.to, row.head_dim);
    std::memcpy(static_cast<char*>(row.out) + bytes_of(row.to, row.out_element),
                static_cast<const char*>(row.in) + bytes_of(row.from, row.in_element), static_cast<std::size_t>(bytes));
    return;
  }
  for (std::int32_t i = 0; i < row.head_dim; ++i) {
    from_float(row.to, row.out, row.out_element + i, to_float(row.from, row.in, row.in_element + i) / scale);
  }
}

/// The number stored values are divided by. With a scale per token it is chosen here and written beside the row.
float scale_of(const AppendParams& params, const ScaleView& scale, const Row& row, Place place, std::int32_t kv_head) {
  if (params.quant == KvQuant::none) {
    return 1.0f;
  }
  if (scale.data == nullptr) {
    return scale.number;
  }
  const std::int64_t index = place.page * scale.page_stride + place.slot * scale.token_stride + kv_head * scale.head_stride;
  if (params.quant != KvQuant::token) {
    return scale.data[index];
  }
  const float chosen = scale_of_token(row.to, largest_magnitude(row));
  const_cast<float*>(scale.data)[index] = chosen;  // an output of the call: see AppendArgs
  return chosen;
}

void append_row(const AppendParams& params, bool is_key, Place place, std::int32_t token, std::int32_t kv_head) {
  const CacheView& cache = is_key ? params.cache.k : params.cache.v;
  const QView& from = is_key ? params.k : params.v;
  const Row row{.from = from.dtype,
                .to = cache.dtype,
                .in = from.data,
                .in_element = token * from.token_stride + kv_head * from.head_stride,
                .out = const_cast<void*>(cache.data),
                .out_element = place.page * cache.page_stride + place.slot * cache.token_stride + kv_head * cache.head_stride,
                .head_dim = is_key ? params.head_dim_qk : params.head_dim_vo};
  write_row(row, scale_of(params, cache.scale, row, place, kv_head));
}

}  // namespace

void append_kv(const AppendParams& params, const Threads& threads) {
  const std::int64_t num_tokens = params.num_tokens;
  threads.for_each_ticket(ceil_div(num_tokens, kTokensPerTicket), [&](std::int64_t ticket, int) {
    const std::int64_t end = std::min((ticket + 1) * kTokensPerTicket, num_tokens);
    for (std::int64_t t = ticket * kTokensPerTicket; t < end; ++t) {
      const std::int32_t token = static_cast<std::int32_t>(t);
      const std::int64_t slot = params.slots == nullptr ? 0
                                : params.slots_64       ? static_cast<const std::int64_t*>(params.slots)[t]
                                                        : static_cast<const std::int32_t*>(params.slots)[t];
      if (slot < 0) {
        continue;
      }
      const std::int32_t request = params.slots == nullptr ? request_of_token(params, token) : 0;
      for (std::int32_t head = 0; head < params.num_kv_heads; ++head) {
        const Place place = params.slots != nullptr ? Place{.page = slot / params.cache.page_size,
                                                            .slot = static_cast<std::int32_t>(slot % params.cache.page_size)}
                                                    : place_by_request(params, request, token, head);
        append_row(params, true, place, token, head);
        append_row(params, false, place, token, head);
      }
    }
  });
}

}  // namespace fovea::cpu
