#include "backends/cuda/kernels/attention_sm90_decode/maps.h"

#include <bit>
#include <cstring>

#include "backends/cuda/kernels/attention_sm90_decode/layout.h"
#include "backends/cuda/tensor_map.h"

namespace fovea::cuda::attention_sm90_decode {
namespace {

constexpr int kRank = 4;  // element, slot, head, page

struct Strides {
  std::uint64_t bytes[kRank - 1];
};

Strides strides_of(const CacheView& cache) {
  const auto bytes = [&](std::int64_t stride) { return static_cast<std::uint64_t>(bytes_of(cache.dtype, stride)); };
  return {{bytes(cache.token_stride), bytes(cache.head_stride), bytes(cache.page_stride)}};
}

/// Tokens of a box: whole swizzle atoms of 8, of one page. Ragged KV is one page.
std::int32_t box_rows_of(const KvView& kv) {
  if (kv.table == nullptr) {
    return can_be_mapped(kv.k.data, strides_of(kv.k).bytes) && can_be_mapped(kv.v.data, strides_of(kv.v).bytes) ? kTileKv : 0;
  }
  if (kv.page_size % 8 != 0 || (kTileKv % kv.page_size != 0 && kv.page_size % kTileKv != 0)) {
    return 0;
  }
  const bool mapped = can_be_mapped(kv.k.data, strides_of(kv.k).bytes) && can_be_mapped(kv.v.data, strides_of(kv.v).bytes);
  return mapped ? min_(kv.page_size, kTileKv) : 0;
}

void make_map(const CacheView& cache, const KernelParams& params, const KvView& kv, std::int32_t box_rows, std::int32_t head_dim,
              MapBytes& out) {
  Strides strides = strides_of(cache);
  const auto num_pages = static_cast<std::uint64_t>(max_(1, kv.num_pages));  // nothing outside them is touched, whatever the tables say
  const bool ragged = kv.table == nullptr;
  if (ragged) {
    strides.bytes[0] = strides.bytes[2];
  }
  const std::uint64_t extents[kRank] = {static_cast<std::uint64_t>(head_dim), ragged ? num_pages : static_cast<std::uint64_t>(kv.page_size),
                                        static_cast<std::uint64_t>(params.num_kv_heads), ragged ? 1 : num_pages};
  const unsigned box[kRank] = {static_cast<unsigned>(kChunkBytes * 8 / row_of(cache.dtype).bits), static_cast<unsigned>(box_rows), 1, 1};
  const TensorMap map = tensor_map(cache.data, {.dtype = cache.dtype, .extents = extents, .strides_bytes = strides.bytes, .box = box});
  static_assert(sizeof(map) == sizeof(out));
  std::memcpy(&out, &map, sizeof out);
}

}  // namespace

void make_maps(const KernelParams& params, void* maps) {
  FormatMaps* formats = static_cast<FormatMaps*>(maps);
  for (std::int32_t f = 0; f < params.num_formats; ++f) {
    const KvView& kv = params.kv[f];
    formats[f].box_rows = box_rows_of(kv);
    if (formats[f].box_rows > 0) {
      formats[f].box_shift = std::countr_zero(static_cast<unsigned>(formats[f].box_rows));
      make_map(kv.k, params, kv, formats[f].box_rows, params.head_dim_qk, formats[f].k);
      make_map(kv.v, params, kv, formats[f].box_rows, params.head_dim_vo, formats[f].v);
    }
  }
}

}  // namespace fovea::cuda::attention_sm90_decode
