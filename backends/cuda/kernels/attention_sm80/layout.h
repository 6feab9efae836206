// attention_sm80: configuration and shared-memory layout. Read by the kernel and by the host that launches it.
#pragma once

#include "fovea/dtype.h"
#include "portable/config.h"

namespace fovea::cuda::attention_sm80 {

/// Everything that is fixed when a kernel is compiled. Head dims are the problem's, rounded up to multiples of 16.
struct Config {
  DType q = DType::bf16, k = DType::bf16, v = DType::bf16, o = DType::bf16;
  int32_t head_dim_qk = 128, head_dim_vo = 128;
  int32_t tile_q = 64, tile_kv = 64;  // packed rows, columns
  int32_t warps_q = 4, warps_kv = 1;  // warps side by side over rows, and over the columns of a tile
  int32_t stages = 2;                 // kv tiles in shared memory
  int32_t token_scales = 0;           // KvQuant::token
  PlanForm form = PlanForm::list;
};

/// Type q and k are multiplied in: that of the 16-bit one, f16 where both have 8 bits.
constexpr DType qk_type(const Config& c) { return row_of(c.k).bits == 16 ? c.k : row_of(c.q).bits == 16 ? c.q : DType::f16; }
/// Type weights and v are multiplied in. f16 holds 8-bit values exactly and rounds weights 8 times finer than bf16.
constexpr DType pv_type(const Config& c) { return row_of(c.v).bits == 16 ? c.v : DType::f16; }

constexpr int32_t num_threads(const Config& c) { return 32 * c.warps_q * c.warps_kv; }

/// Bytes of a row in shared memory: a multiple of 16 of which 16 bytes are an odd number, so that 8 rows of a matrix lie in different
/// banks.
constexpr int32_t padded_row_bytes(int32_t bytes) { return (bytes / 16) % 2 == 0 ? bytes + 16 : bytes; }

/// Bytes of a q row before its padding: room for 16 floats of o, which leave by way of it.
constexpr int32_t row_room(const Config& c) { return max_(c.head_dim_qk * 2, 64); }
constexpr int32_t q_row_bytes(const Config& c) { return padded_row_bytes(row_room(c)); }
constexpr int32_t k_row_bytes(const Config& c) { return padded_row_bytes(c.head_dim_qk * row_of(c.k).bits / 8); }
constexpr int32_t v_row_bytes(const Config& c) { return padded_row_bytes(c.head_dim_vo * row_of(c.v).bits / 8); }
constexpr int32_t stage_bytes(const Config& c) { return c.tile_kv * (k_row_bytes(c) + v_row_bytes(c)); }

/// Columns of a tile that a warp computes: it shares them with the warps of other rows.
constexpr int32_t warp_cols(const Config& c) { return c.tile_kv / c.warps_kv; }

/// 16-row tiles of a warp.
constexpr int32_t row_tiles(const Config& c) { return c.tile_q / (16 * c.warps_q); }
/// Columns that a warp multiplies at once. Scores of two strips are there at the same time: 32 registers each, or 64 where o is small and
/// columns have no scales.
constexpr int32_t strip_cols(const Config& c) {
  const int32_t registers = c.head_dim_vo <= 64 && c.token_scales == 0 ? 64 : 32;
  return min_(warp_cols(c), min_(64, 2 * registers / row_tiles(c)));
}
constexpr int32_t num_strips(const Config& c) { return warp_cols(c) / strip_cols(c); }

/// While tile n is computed, keys of tile n + keys_ahead are asked for: those of tile n + 1 are needed before its end.
constexpr int32_t keys_ahead(const Config& c) { return c.stages + (num_strips(c) == 1 ? 1 : 0); }
/// kv tiles whose columns' places a team looks up at once, a column a thread.
constexpr int32_t lookup_tiles(const Config& c) { return 32 * c.warps_q / warp_cols(c); }
/// kv tiles whose places are in shared memory: from those of the values that are being asked for to those looked up meanwhile.
constexpr int32_t place_tiles(const Config& c) { return keys_ahead(c) - c.stages + lookup_tiles(c) + 2; }
/// kv tiles whose positions and scales are: from the one that is computed.
constexpr int32_t detail_tiles(const Config& c) { return keys_ahead(c) + lookup_tiles(c) + 1; }

/// Where a column is: the first bytes of its k and v of a kv head, or of zeros where nobody sees it.
struct ColumnPlace {
  uint64_t k, v;
};

/// Floats of a row of o when it leaves through shared memory.
constexpr int32_t out_row_floats(const Config& c) { return c.head_dim_vo + 4; }

/// Where things are, in bytes. All 16-byte aligned.
struct Layout {
  int32_t item;       // ItemData
  int32_t rows;       // Row [tile_q]
  int32_t places;     // ColumnPlace [place_tiles][tile_kv]
  int32_t positions;  // int32 [detail_tiles][tile_kv], where positions follow from storage
  int32_t k_scale;    // float [detail_tiles][tile_kv], with token_scales
  int32_t v_scale;
  int32_t seen;     // int32 [2][tile_kv]
  int32_t top_sum;  // float [2][warps_kv][tile_q], with warps_kv > 1
  int32_t q;        // [tile_q][q_row_bytes]
  int32_t ring;     // [stages] k tile, v tile; at an item's end, with warps_kv > 1, float [warps_kv][tile_q][out_row_floats]
  int32_t bytes;
};

inline constexpr int32_t kRowBytes = 32;                                        // sizeof(Row)
constexpr int32_t item_bytes(const Config& c) { return 304 + 48 * c.warps_q; }  // sizeof(ItemData)

constexpr Layout layout_of(const Config& c) {
  Layout l{};
  int32_t next = 0;
  const auto take = [&next](int32_t bytes) {
    const int32_t at = next;
    next += ceil_div(bytes, 16) * 16;
    return at;
  };
  l.item = take(item_bytes(c));
  l.rows = take(c.tile_q * kRowBytes);
  l.places = take(place_tiles(c) * c.tile_kv * static_cast<int32_t>(sizeof(ColumnPlace)));
  l.positions = take(detail_tiles(c) * c.tile_kv * 4);
  l.k_scale = take(c.token_scales ? detail_tiles(c) * c.tile_kv * 4 : 0);
  l.v_scale = take(c.token_scales ? detail_tiles(c) * c.tile_kv * 4 : 0);
  l.seen = take(2 * c.tile_kv * 4);
  l.top_sum = take(c.warps_kv == 1 ? 0 : 2 * c.warps_kv * c.tile_q * 4);
  l.q = take(c.tile_q * q_row_bytes(c));
  const int32_t out_bytes = c.warps_kv == 1 ? 0 : c.warps_kv * c.tile_q * out_row_floats(c) * 4;
  l.ring = take(max_(c.stages * stage_bytes(c), out_bytes));
  l.bytes = next;
  return l;
}

}  // namespace fovea::cuda::attention_sm80
