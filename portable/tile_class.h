// What a mask says of a whole tile: its `keep`, evaluated on intervals.
#pragma once

#include "portable/interval.h"
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

}  // namespace fovea
