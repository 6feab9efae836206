// What the CPU backend's host code and its per-instruction-set code share: the scratch of a thread and the entry points of one instruction
// set. Plain structs only: this file is compiled with several sets of target flags.
#pragma once

#include "backends/cpu/device/variant_code.h"
#include "portable/params.h"

namespace fovea::cpu {

inline constexpr int32_t kMaxTileQ = 96;
/// Widest vector pair of any instruction set, in floats: what rows are padded to.
inline constexpr int32_t kRowPadding = 32;
/// Configurations with at most this many rows compute scores as direct dot products; the others pack tiles into panels.
inline constexpr int32_t kMaxDirectRows = 32;

/// Items that one thread computes side by side: heads of one row group. Where the heads of a token lie side by side too, memory is then
/// read in order instead of in pieces of a head.
inline constexpr int32_t kMaxSetItems = 8;
inline constexpr int32_t kMaxSetRows = 128;
static_assert(kMaxSetRows >= kMaxTileQ);

/// A kv tile as addresses.
struct TileColumns {
  const float** k_scale;            // [tile_kv]; where scales differ from column to column
  const float** v_scale;            // [tile_kv]
  ColumnTable table;                // for the first head of a set; rows null: a column that no row may see
  ColumnTable heads[kMaxSetItems];  // with each head's own rows and scales, where it isn't enough to add an offset to the first head's
};

/// One thread's memory, sized by load() for the largest configuration.
struct Scratch {
  void* q;               // [kMaxSetRows, padded head_dim_qk] of float, or narrower
  float* o;              // [kMaxSetRows, padded head_dim_vo]: the running sum, then the output
  float* scores;         // [kMaxSetRows, tile_kv]
  float* k_panels;       // [tile_kv * head_dim_qk]
  float* v_panels;       // [tile_kv * padded head_dim_vo]
  float* k_stage;        // [tile_kv, padded head_dim_qk] of variants that transform keys
  float* v_stage;        // [tile_kv, padded head_dim_vo] of variants that transform values
  float* row_max;        // [kMaxSetRows]
  float* row_sum;        // [kMaxSetRows]
  ItemRow* rows;         // [kMaxSetRows]
  TileColumns tiles[2];  // this tile and the next
  const void* zeros;     // a row of any dtype
};

struct NamedVariant {
  const char* name;
  const VariantCode* code;
};

/// What merge_states() merges; row i is (token, head) = (i / num_heads, i % num_heads).
struct StatesView {
  struct In {
    QView o;
    const float* lse;  // natural log
    int64_t lse_token_stride, lse_head_stride;
  };
  const In* in;  // [num_states]
  int32_t num_states;
  OutView out;
  int32_t num_heads, head_dim;
};

/// The code of one instruction set.
struct IsaCode {
  const char* name;
  /// Items of a set have the same row group, rows and configuration, and ascending kv heads; together at most kMaxSetRows rows.
  void (*attend)(const KernelParams& params, const VariantCode& variant, const WorkItem* items, int32_t num_items, Scratch& scratch);
  void (*merge_partials)(const KernelParams& params, const VariantCode& variant, const MergeItem& item, Scratch& scratch);
  /// Rows [begin, end) of the composed rows' (row, query head) pairs.
  void (*compose_levels)(const KernelParams& params, const VariantCode& variant, int64_t begin, int64_t end, Scratch& scratch);
  /// Rows [begin, end); `o` is scratch of one padded row.
  void (*merge_states)(const StatesView& states, int64_t begin, int64_t end, float* o);
  const NamedVariant* variants;
  int32_t num_variants;
};

}  // namespace fovea::cpu
