// Classes of a mask's tiles that somebody knows beforehand, as kernels read them: the caller's, or computed once from `keep`
// (fovea/plan.h: TileClasses). portable/tile_class.h looks tiles up in it.
#pragma once

#include "portable/compat.h"

namespace fovea {

/// Tile (i, j) of a request is its query tokens [i * tile_q, (i + 1) * tile_q) x positions [j * tile_kv, (j + 1) * tile_kv), cut off at its
/// qo_len and kv_len. Request r's tiles are one TileClass a byte from classes[class_indptr[r]] on: [num_heads, ceil(qo_len / tile_q),
/// ceil(kv_len / tile_kv)], num_heads being 1 (all heads alike) or the number of query heads.
struct TileMap {
  const uint8_t* classes = nullptr;  // null: nothing is known
  const int32_t* class_indptr = nullptr;
  int32_t num_heads = 1, tile_q = 1, tile_kv = 1;
};

}  // namespace fovea
