// attention_sm90_decode: configuration, shared-memory layout and tensor maps. Read by the kernel and by the host that launches it.
#pragma once

#include "fovea/dtype.h"
#include "portable/config.h"

namespace fovea::cuda::attention_sm90_decode {

inline constexpr int32_t kTileKv = 64;       // tokens: the rows of a wgmma
inline constexpr int32_t kTileShift = 6;     // log2 of it
inline constexpr int32_t kChunkBytes = 128;  // a tile lies in chunks of 128 bytes of a row, swizzled: [chunk][token][128 bytes]
inline constexpr int32_t kTileChunkBytes = kTileKv * kChunkBytes;
inline constexpr int32_t kMaxTileQ = 64;
inline constexpr int32_t kThreads = 256;  // a warpgroup that attends, one that loads

/// Everything that is fixed when a kernel is compiled. Head dims are the problem's, rounded up to multiples of 16.
struct Config {
  DType q = DType::bf16, k = DType::bf16, v = DType::bf16;  // all the same, or k and v of 8 bits
  int32_t head_dim_qk = 128, head_dim_vo = 128;
  int32_t tile_q = 8;  // packed rows: the columns of a wgmma
  int32_t stages = 3;  // kv tiles in shared memory
  int32_t ctas = 2;    // of a multiprocessor
  int32_t num_formats = 1;
  PlanForm form = PlanForm::ranges;
};

/// A CUtensorMap.
struct alignas(64) MapBytes {
  uint64_t opaque[16];
};

/// How the copy unit reads one format's cache: boxes of `box_rows` tokens x 128 bytes of one page and kv head; axes (element, slot, head,
/// page). 0: it can't, and threads gather tokens instead.
struct alignas(64) FormatMaps {
  MapBytes k, v;
  int32_t box_rows;
  int32_t box_shift;  // log2 of it
};

template <int kFormats>
struct Maps {
  FormatMaps formats[kFormats];
};

/// Registers of a loading and of an attending thread when two CTAs share a multiprocessor: 256 together at most.
constexpr int32_t load_registers(const Config& c) { return c.tile_q <= 48 ? 96 : 88; }
constexpr int32_t attend_registers(const Config& c) { return 256 - load_registers(c); }

/// 8-bit keys and values become f16, which holds them exactly, in registers on their way into a product.
constexpr bool is_narrow(const Config& c) { return row_of(c.k).bits == 8; }
constexpr DType product_type(const Config& c) { return is_narrow(c) ? DType::f16 : c.k; }
constexpr int32_t element_bytes(const Config& c) { return row_of(c.k).bits / 8; }

/// Chunks of 64 elements: of queries as they are multiplied, and of o, where one is the rows of a wgmma.
constexpr int32_t num_chunks(int32_t head_dim) { return ceil_div(head_dim, 64); }
/// Chunks of 128 bytes of a row of keys or values.
constexpr int32_t num_kv_chunks(const Config& c, int32_t head_dim) { return ceil_div(head_dim * element_bytes(c), kChunkBytes); }
constexpr int32_t k_tile_bytes(const Config& c) { return num_kv_chunks(c, c.head_dim_qk) * kTileChunkBytes; }
constexpr int32_t v_tile_bytes(const Config& c) { return num_kv_chunks(c, c.head_dim_vo) * kTileChunkBytes; }
constexpr int32_t stage_bytes(const Config& c) { return k_tile_bytes(c) + v_tile_bytes(c); }

/// Floats of a row of o when it leaves through shared memory: whole groups of 32, inside which elements are permuted.
constexpr int32_t out_row_floats(const Config& c) { return ceil_div(c.head_dim_vo, 32) * 32; }
constexpr int32_t out_bytes(const Config& c) { return c.tile_q * out_row_floats(c) * 4; }
/// Does o of an item leave through the stage of its last tile?
constexpr bool out_in_stage(const Config& c) { return out_bytes(c) <= stage_bytes(c); }

/// Where things are, in bytes.
struct Layout {
  int32_t ring;      // [stages] k tile, v tile. HW: multiples of 1024, as q. At an item's end the last stage may hold o
  int32_t q;         // [chunk][tile_q][128 bytes], swizzled
  int32_t p;         // weights, [tile_q / 8][token][8]
  int32_t out;       // float [tile_q][out_row], where no stage is large enough
  int32_t items;     // ItemRecord [kItemSlots]: items on their way from the loading to the attending warpgroup
  int32_t pages;     // int32 [kPageTiles][token]: page ids of tiles whose tokens are gathered
  int32_t rows;      // Row [tile_q]
  int32_t exchange;  // float [4 warps][tile_q]: tops or sums on their way between warps; [tile_q]: tops at an item's end
  int32_t barriers;  // uint64 [4][stages]: k full, v full, k empty, v empty; [2][kItemSlots]: item full, item empty
  int32_t bytes;
};

inline constexpr int32_t kRowBytes = 32;      // sizeof(Row)
inline constexpr int32_t kRecordBytes = 192;  // sizeof(ItemRecord), or a little more
inline constexpr int32_t kItemSlots = 4;
inline constexpr int32_t kPageTiles = 8;   // a power of two above kPagesAhead
inline constexpr int32_t kPagesAhead = 6;  // tiles; at least `stages`: see gather_tokens()

constexpr Layout layout_of(const Config& c) {
  Layout l{};
  int32_t next = 0;
  const auto take = [&next](int32_t bytes) {
    const int32_t at = next;
    next += ceil_div(bytes, 16) * 16;
    return at;
  };
  l.ring = take(c.stages * stage_bytes(c));
  l.q = take(num_chunks(c.head_dim_qk) * c.tile_q * kChunkBytes);
  l.p = take(c.tile_q * kTileKv * 2);
  l.out = take(out_in_stage(c) ? 0 : out_bytes(c));
  l.items = take(kItemSlots * kRecordBytes);
  l.pages = take(kPageTiles * kTileKv * 4);
  l.rows = take(c.tile_q * kRowBytes);
  l.exchange = take(5 * c.tile_q * 4);
  l.barriers = take((4 * c.stages + 2 * kItemSlots) * 8);
  l.bytes = next;
  return l;
}

}  // namespace fovea::cuda::attention_sm90_decode
