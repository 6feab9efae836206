// The assignment: who computes what. Integers only (+ - * and floor division), as functions of one group, boundary, unit or chunk at a
// time; the scans between them are the caller's (serial loops in src/schedule/, block scans in a planner kernel), so that host and device
// give the same bits.
//
// Ranges: units (group, kv head) in order, each costing fixed + per_tile * its visible tiles. Worker w begins where the running cost
// reaches w * share, moved to a tile edge. Lists: units (group, kv head, row tile), the long ones cut into chunks, longest first by
// cost bucket.
#pragma once

#include "portable/config.h"
#include "portable/kv_range.h"
#include "portable/work.h"
#include "portable/work_iterator.h"

namespace fovea {

/// a / b; most of the time both have 32 bits, of which a division takes a quarter of the time.
FOVEA_FN constexpr uint64_t quotient(uint64_t a, uint64_t b) {
  return ((a | b) >> 32) == 0 ? static_cast<uint32_t>(a) / static_cast<uint32_t>(b) : a / b;
}
FOVEA_FN constexpr uint32_t quotient(uint32_t a, uint32_t b) { return a / b; }

/// Packed rows of a row tile: whole query tokens, so that a token's heads share a tile, unless one token alone has more heads than a tile
/// has rows.
FOVEA_FN constexpr int32_t rows_per_tile(const KernelConfig& config, int32_t group_size) {
  return group_size <= config.tile_q ? config.tile_q / group_size * group_size : config.tile_q;
}

/// Cost of a unit or chunk in 1/16 tiles. fixed and per_tile are at least 1: every unit, also one without visible tiles, has a place in the
/// order.
FOVEA_FN constexpr uint32_t cost_of_tiles(const CostTable& cost, int32_t tiles) {
  return cost.fixed + cost.per_tile * static_cast<uint32_t>(tiles);
}

/// `Cost`: uint64_t, or uint32_t where all costs together stay below 2^31.
template <class Cost>
FOVEA_FN constexpr Cost share_of(Cost total, int32_t workers) {
  return quotient(static_cast<Cost>(total + static_cast<Cost>(workers) - 1), static_cast<Cost>(workers));
}

/// Of a worker of a ranges plan.
template <class Cost>
FOVEA_FN constexpr Cost share_of_range(const CostTable& cost, Cost total, int32_t workers) {
  return max_(share_of(total, workers), static_cast<Cost>(cost.least_share));
}

// ---- Partial slots ----------------------------------------------------------------------------------------------------------------------

/// A configuration's part of a mask group's partial slots, in proportion to its work: with two slots a worker in all, no configuration has
/// to leave a piece longer than a worker's share of everything. `before`: cost of the configurations before it. Parts are adjacent, in
/// configuration order; none depends on what another used.
FOVEA_FN constexpr Span slots_of_config(int32_t max_slots, uint64_t before, uint64_t cost, uint64_t total) {
  if (total == 0) {
    return {};
  }
  const uint64_t slots = static_cast<uint64_t>(max_slots);
  const auto part = [&](uint64_t of) { return of == 0 ? 0 : of == total ? max_slots : static_cast<int32_t>(quotient(slots * of, total)); };
  return {part(before), part(before + cost)};
}

// ---- Ranges -----------------------------------------------------------------------------------------------------------------------------

/// A place in the ordered tiles of a ranges plan: before visible tile `tile` of a unit. tile > 0: inside the unit.
struct RangePlace {
  int32_t group, head, tile;
};

FOVEA_FN constexpr bool same_unit(RangePlace a, RangePlace b) { return a.group == b.group && a.head == b.head; }

FOVEA_FN constexpr bool is_before(RangePlace a, RangePlace b) {
  if (a.group != b.group) {
    return a.group < b.group;
  }
  return a.head != b.head ? a.head < b.head : a.tile < b.tile;
}

/// Boundaries never step back: one that may not cut would return to the start of a unit that the one before cut. The scan between
/// range_place() and the cursors.
FOVEA_FN constexpr RangePlace later(RangePlace a, RangePlace b) { return is_before(a, b) ? b : a; }

/// May boundary w (1 .. workers - 1) cut inside a unit? A cut makes at most two partial items more, so at most `cuts` = max_slots / 2
/// boundaries may: those nearest above the multiples of 1 / (cuts + 1) of the workers, as if that many workers shared the work.
FOVEA_FN constexpr bool may_cut(int32_t w, int32_t workers, int32_t max_slots) {
  const int64_t parts = min_(workers, max_slots / 2 + 1);
  const auto multiple = [&](int64_t i) { return quotient(static_cast<uint64_t>(i * parts), static_cast<uint64_t>(workers)); };
  return parts == workers || multiple(w) > multiple(w - 1);
}

/// The place at `offset` (cost from the beginning of the group; less than heads * unit cost), moved to the nearest tile edge; to an edge of
/// the unit when the piece between would cost no more than a partial state costs; to the unit's start when the boundary may not cut.
/// `per_tile`: what divides by cost.per_tile, uint32_t or a type of its own.
template <class Cost, class PerTile>
FOVEA_FN constexpr RangePlace range_place(const CostTable& cost, const PerTile& per_tile, int32_t group, int32_t heads, int32_t tiles,
                                          Cost offset, bool cut) {
  const uint32_t unit = cost_of_tiles(cost, tiles);
  const int32_t head = static_cast<int32_t>(quotient(offset, static_cast<Cost>(unit)));
  const uint32_t rest = static_cast<uint32_t>(offset - static_cast<Cost>(head) * unit);
  if (!cut || rest <= cost.fixed) {
    return {group, head, 0};
  }
  const int32_t tile = static_cast<int32_t>((rest - cost.fixed + cost.per_tile / 2) / per_tile);
  const uint32_t left = cost.per_tile * static_cast<uint32_t>(tile);
  const uint32_t right = cost.per_tile * static_cast<uint32_t>(tiles - tile);
  if (left <= cost.per_partial && left <= right) {
    return {group, head, 0};
  }
  if (right > cost.per_partial) {
    return {group, head, tile};
  }
  return head + 1 < heads ? RangePlace{group, head + 1, 0} : RangePlace{group + 1, 0, 0};
}

FOVEA_FN constexpr RangePlace range_place(const CostTable& cost, int32_t group, int32_t heads, int32_t tiles, uint64_t offset, bool cut) {
  return range_place(cost, cost.per_tile, group, heads, tiles, offset, cut);
}

/// Partial items of a worker: its first item when it begins inside a unit, its last when it ends inside another (or began the same one).
FOVEA_FN constexpr int32_t partial_items(RangePlace begin, RangePlace end) {
  if (!is_before(begin, end)) {
    return 0;
  }
  const bool first = begin.tile > 0;
  const bool last = end.tile > 0 && !(first && same_unit(begin, end));
  return static_cast<int32_t>(first) + static_cast<int32_t>(last);
}

/// Is boundary `here` the first to cut its unit? Then a merge begins, with the last partial item of the worker that ends here.
FOVEA_FN constexpr bool begins_merge(RangePlace before, RangePlace here) {
  return here.tile > 0 && !(before.tile > 0 && same_unit(before, here));
}

// ---- Lists ------------------------------------------------------------------------------------------------------------------------------

/// How the units of a list are cut. Near-equal chunks of at most max_tiles visible tiles; or, with split_tiles > 0, at absolute multiples
/// of split_tiles kv tiles, so that a unit's chunks depend on nothing but the unit.
struct ChunkRule {
  int32_t max_tiles = kUnbounded;
  int32_t split_tiles = 0;
  int32_t max_rows =
      0;  // of split_tiles: groups of more packed rows stay whole: they have row tiles enough, and states would cost more than they bring
  uint32_t whole_formats = 0;  // of split_tiles: groups of format f stay whole where bit f is set
};

inline constexpr int32_t kMinChunkTiles = 8;         // a chunk of fewer tiles loses more in its partial state than balance gains
inline constexpr int32_t kMaxRowsOfFixedSplit = 64;  // packed rows

/// Policy::throughput. Units above a worker's share are cut into chunks of at most a share. Cut units have more than max_tiles tiles each,
/// so that ceil(tiles / max_tiles) < 2 * tiles / max_tiles, and all tiles together are at most `usable` shares: fewer than 2 * usable
/// partial states.
FOVEA_FN constexpr ChunkRule throughput_rule(const CostTable& cost, uint64_t total, int32_t workers, int32_t max_slots) {
  const int32_t usable = min_(workers, max_slots / 2);
  if (usable == 0) {
    return {};
  }
  const uint64_t tiles = quotient(share_of(total, usable) + cost.per_tile - 1, static_cast<uint64_t>(cost.per_tile));
  return {.max_tiles = max_(kMinChunkTiles, static_cast<int32_t>(min_(tiles, static_cast<uint64_t>(kUnbounded))))};
}

/// The chunks of a unit: `count` of them, at least one; chunk i is visible tiles [begin, end).
struct UnitChunks {
  VisibleTiles tiles;
  int32_t count;
  int32_t split_tiles;      // 0: near-equal
  int32_t first_count;      // splits that touch tiles.first
  int32_t split_of_second;  // split of chunk first_count, the next that touches tiles.second

  /// Visible tiles before kv tile t.
  FOVEA_FN constexpr int32_t ordinal(int32_t t) const {
    return max_(0, min_(t, tiles.first.end) - tiles.first.begin) + max_(0, min_(t, tiles.second.end) - tiles.second.begin);
  }
  FOVEA_FN constexpr Span chunk(int32_t i) const {
    if (count == 1) {
      return {0, tiles.count()};
    }
    if (split_tiles == 0) {
      const int32_t each = tiles.count() / count;
      const int32_t longer = tiles.count() - each * count;  // the first `longer` chunks have one tile more
      const int32_t begin = i * each + min_(i, longer);
      return {begin, begin + each + (i < longer ? 1 : 0)};
    }
    const int32_t split = i < first_count ? tiles.first.begin / split_tiles + i : split_of_second + (i - first_count);
    return {ordinal(split * split_tiles), ordinal((split + 1) * split_tiles)};
  }
};

FOVEA_FN constexpr UnitChunks unit_chunks(const ChunkRule& rule, const VisibleTiles& tiles, bool whole) {
  const int32_t n = tiles.count();
  UnitChunks chunks{tiles, 1, 0, 0, 0};
  if (n == 0 || whole) {
    return chunks;
  }
  if (rule.split_tiles == 0) {
    chunks.count = n <= rule.max_tiles ? 1 : ceil_div(n, rule.max_tiles);
    return chunks;
  }
  const int32_t s = rule.split_tiles;
  const int32_t end_of_first = ceil_div(tiles.first.end, s);
  chunks.split_tiles = s;
  chunks.first_count = end_of_first - tiles.first.begin / s;
  chunks.count = chunks.first_count;
  if (!tiles.second.empty()) {  // a split may hold the end of the first span and the beginning of the second
    chunks.split_of_second = max_(tiles.second.begin / s, end_of_first);
    chunks.count += max_(0, ceil_div(tiles.second.end, s) - chunks.split_of_second);
  }
  return chunks;
}

/// Does a split rule leave the units of this group whole?
FOVEA_FN constexpr bool stays_whole(const ChunkRule& rule, int32_t format, int32_t packed_rows) {
  return rule.split_tiles > 0 && (packed_rows > rule.max_rows || (rule.whole_formats >> format & 1u) != 0);
}

inline constexpr int32_t kNumCostBuckets = 32;
inline constexpr int32_t kFirstFineOctave = 6, kFineOctaves = 6;  // of costs: 4 tiles to 256
static_assert(kFirstFineOctave + 4 * kFineOctaves + 2 == kNumCostBuckets);

/// cost >= 1, larger for larger costs: an octave a bucket below kFirstFineOctave, then four of them, then all but the next octave in the
/// last. Items of a list come in descending bucket order, inside a bucket in (group, kv head, row tile, chunk) order. Workers that take
/// every n-th item end the closer together the finer the buckets are: with one an octave a causal prefill took a third longer than its
/// mean share.
FOVEA_FN constexpr int32_t cost_bucket(uint32_t cost) {
  int32_t octave = 0;
  for (int32_t step = 16; step > 0; step /= 2) {
    if ((cost >> (octave + step)) != 0) {
      octave += step;
    }
  }
  if (octave < kFirstFineOctave) {
    return octave;
  }
  if (octave >= kFirstFineOctave + kFineOctaves) {
    return octave == kFirstFineOctave + kFineOctaves ? kNumCostBuckets - 2 : kNumCostBuckets - 1;
  }
  return kFirstFineOctave + 4 * (octave - kFirstFineOctave) + static_cast<int32_t>(cost >> (octave - 2) & 3);
}

}  // namespace fovea
