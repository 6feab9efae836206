// A variant's hooks as functions of one instruction set, and the tiles they work on. Plain structs only: this file is compiled with several
// sets of target flags, and a user's variant compiled at run time meets the library here.
#pragma once

#include "portable/tile_class.h"
#include "portable/variant.h"

namespace fovea::cpu {

/// One packed row of an item. `at` lacks kv_pos.
struct ItemRow {
  Position<> at;
  int32_t token;    // query token
  int32_t col_end;  // columns it may see, [0, col_end)
};

/// The columns of one kv tile, as addresses. Columns that no row may see point to zeros and have live 0.
struct ColumnTable {
  const void** k_rows;           // [tile_kv]
  const void** v_rows;           // [tile_kv]
  float* k_scale;                // [tile_kv]; used where the scale differs from column to column
  float* v_scale;                // [tile_kv]
  int32_t* kv_pos;               // [tile_kv]
  int32_t* live;                 // [tile_kv] -1 or 0
  int32_t first_column;          // of the group
  int32_t live_begin, live_end;  // within the tile
  bool full;                     // every row sees every column: no `keep`
};

/// The scores of one tile, on their way to weights.
struct ScoreTile {
  float* scores;  // [rows, stride]
  int32_t stride, num_rows, num_columns;
  const ItemRow* rows;
  const ColumnTable* columns;
  float scale;  // sm_scale and the k scale of the whole head
  bool k_scale_per_column;
  bool by_index;  // columns at or past kv_len are not there
};

/// A variant compiled for one instruction set. `mask` and `params` are V::Mask and V::Params.
struct VariantCode {
  /// Scores become logits, -inf where the row doesn't see the column; with use_softmax = false they become weights, 0 there.
  void (*make_logits)(const ScoreTile& tile, const void* mask, const void* params);
  /// A row's last step: scales and transforms `o` in place; returns lse2 with the extra logit counted.
  float (*finish_row)(const void* mask, const void* params, const Position<>& at, float lse2, float* o, int32_t head_dim);
  /// What the mask says of a tile; null where it says nothing that KvRange doesn't.
  TileClass (*class_of)(const void* mask, const Position<Interval>& tile);
  /// Rows of floats in place, dequantised; null where the variant leaves them as they are.
  void (*transform_query)(const void* mask, const void* params, float* row, int32_t head_dim, const Position<>& at);
  void (*transform_key)(const void* mask, const void* params, float* row, int32_t head_dim, const Position<>& at);
  void (*transform_value)(const void* mask, const void* params, float* row, int32_t head_dim, const Position<>& at);
  bool use_softmax;
  bool scale_only;  // logits of a tile without masked columns are the scaled scores: make_logits needn't be called
};

}  // namespace fovea::cpu
