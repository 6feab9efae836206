// What a mask says of a whole tile: its `keep`, evaluated on intervals, pair by pair, or looked up where it is known beforehand.
#pragma once

#include "portable/interval.h"
#include "portable/tile_map.h"
#include "portable/variant.h"

namespace fovea {

enum class TileClass : uint8_t {
  empty,  // no row sees any column: nothing is read
  mixed,  // `keep` decides, pair by pair
  full,   // every row sees every column
};

/// Masks whose `keep` is a template on the index type.
template <class Mask>
concept AnswersForTiles = requires(const Mask& mask, const Position<Interval>& tile) { Tri(mask.keep(tile)); };

/// How a mask answers for tiles.
enum class TileAnswer : uint8_t {
  exact,   // empty and full tiles of one request are always found
  sound,   // what is called empty or full is so
  opaque,  // every tile is mixed
};

template <class Mask>
FOVEA_FN constexpr TileAnswer tile_answer() {
  if constexpr (!AnswersForTiles<Mask>) {
    return TileAnswer::opaque;
  } else if constexpr (requires { requires Mask::exact_on_tiles; }) {
    return TileAnswer::exact;
  } else {
    return TileAnswer::sound;
  }
}

template <class Mask>
inline constexpr bool kKeepsAll = false;
template <class Mask>
  requires(Mask::keeps_all)
inline constexpr bool kKeepsAll<Mask> = true;

/// `keep` for a pair or a tile; of an opaque mask a tile is mixed.
template <class Mask, class I>
FOVEA_FN auto keep_of(const Mask& mask, const Position<I>& at) {
  if constexpr (kSame<I, Interval> && !AnswersForTiles<Mask>) {
    return Tri{true, false};
  } else {
    return mask.keep(at);
  }
}

template <class Mask>
FOVEA_FN TileClass classify(const Mask& mask, const Position<Interval>& tile) {
  const Tri kept = keep_of(mask, tile);
  return kept.must ? TileClass::full : (kept.may ? TileClass::mixed : TileClass::empty);
}

/// `keep` of the pairs of a tile, one by one, of one request and head: exact for any mask, opaque ones too. What computes a TileMap.
template <class Mask>
FOVEA_FN TileClass classify_pairs(const Mask& mask, const Position<Interval>& tile) {
  const int32_t num_keys = tile.kv_pos.hi - tile.kv_pos.lo + 1;
  bool any = false, all = true;
  for (int32_t i = 0; i <= tile.qo_idx.hi - tile.qo_idx.lo && !(any && !all); ++i) {
    Position<> at{tile.request.lo, tile.qo_idx.lo + i, tile.q_pos.lo + i, 0,
                  tile.qo_head.lo, tile.kv_head.lo,    tile.qo_len.lo,    tile.kv_len.lo};
    int32_t kept = 0;
    for (int32_t k = 0; k < num_keys; ++k) {
      at.kv_pos = tile.kv_pos.lo + k;
      kept += mask.keep(at) ? 1 : 0;
    }
    any |= kept > 0;
    all &= kept == num_keys;
  }
  return all ? (any ? TileClass::full : TileClass::empty) : (any ? TileClass::mixed : TileClass::empty);
}

/// What the map knows of a tile. Rows of several requests at once, and what lies outside of a request's tokens, are mixed, unread.
FOVEA_FN TileClass class_in(const TileMap& map, const Position<Interval>& tile) {
  const bool one_request = tile.request.single() && tile.qo_len.single() && tile.kv_len.single();
  if (map.classes == nullptr || !one_request || tile.qo_idx.lo < 0 || tile.qo_idx.hi >= tile.qo_len.lo || tile.kv_pos.lo < 0 ||
      tile.kv_pos.hi >= tile.kv_len.lo) {
    return TileClass::mixed;
  }
  const int64_t rows = ceil_div(tile.qo_len.lo, map.tile_q), columns = ceil_div(tile.kv_len.lo, map.tile_kv);
  const int32_t head_begin = map.num_heads == 1 ? 0 : tile.qo_head.lo, head_end = map.num_heads == 1 ? 1 : tile.qo_head.hi + 1;
  bool any = false, all = true;
  for (int32_t h = head_begin; h < head_end; ++h) {
    for (int32_t i = tile.qo_idx.lo / map.tile_q; i <= tile.qo_idx.hi / map.tile_q; ++i) {
      const uint8_t* row = map.classes + map.class_indptr[tile.request.lo] + (h * rows + i) * columns;
      for (int32_t j = tile.kv_pos.lo / map.tile_kv; j <= tile.kv_pos.hi / map.tile_kv; ++j) {
        any |= row[j] != static_cast<uint8_t>(TileClass::empty);
        all &= row[j] == static_cast<uint8_t>(TileClass::full);
      }
      if (any && !all) {
        return TileClass::mixed;
      }
    }
  }
  return any ? TileClass::full : TileClass::empty;
}

}  // namespace fovea
