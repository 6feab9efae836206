// Which kv positions a query position may see, in closed form, and the columns that follow: the only home of those off-by-ones.
// A mask states its KvRange as data, so that planners compiled once serve every mask.
#pragma once

#include "portable/compat.h"
#include "portable/work.h"

namespace fovea {

inline constexpr int32_t kUnbounded = 1 << 30;  // positions and lengths are below this

/// Query position p may see kv position k only if  k <= p + right  and  (k >= p - left  or  k < num_sink)  and, with a chunk,
/// k / chunk == p / chunk. A superset of what `keep` keeps; `exact` says they are the same set, so that a tile inside it needs no `keep`.
struct KvRange {
  int32_t left = kUnbounded;
  int32_t right = kUnbounded;
  int32_t num_sink = 0;
  int32_t exact = 0;
  int32_t chunk = 0;  // 0: none
};

/// A range that holds the intersection of both; exact where both are and one of them bounds nothing the other's sinks reach past.
FOVEA_FN constexpr KvRange intersect(KvRange a, KvRange b) {
  // With left unbounded every early position is visible: its sinks are irrelevant. The side with the tighter window brings its own sinks:
  // {k >= p - left_a or k < sink_a} and {k >= p - left_b or k < sink_b} lies inside {k >= p - min(left) or k < sink of that side}.
  const KvRange& tighter = b.left < a.left ? b : a;
  KvRange both{tighter.left, min_(a.right, b.right), tighter.num_sink, 0, 0};
  // Of two chunks the smaller holds the intersection, and is it where it divides the other.
  both.chunk = a.chunk == 0 || b.chunk == 0 ? max_(a.chunk, b.chunk) : min_(a.chunk, b.chunk);
  const bool chunk_exact = a.chunk == 0 || b.chunk == 0 || max_(a.chunk, b.chunk) % both.chunk == 0;
  const bool left_exact = a.left == kUnbounded || b.left == kUnbounded || (a.left == b.left && a.num_sink == b.num_sink);
  both.exact = a.exact && b.exact && left_exact && chunk_exact;
  return both;
}

/// Half-open interval of positions, columns or tiles.
struct Span {
  int32_t begin = 0, end = 0;
  FOVEA_FN constexpr int32_t length() const { return end - begin; }
  FOVEA_FN constexpr bool empty() const { return end <= begin; }
};

/// At most two spans, the first before the second, with a gap between them: sink tokens and window.
struct SpanPair {
  Span first, second;
  FOVEA_FN constexpr bool contains(Span s) const {
    return (first.begin <= s.begin && s.end <= first.end) || (second.begin <= s.begin && s.end <= second.end);
  }
};

/// Two spans as a pair without touching or empty halves: what is adjacent or overlaps becomes `first`.
FOVEA_FN constexpr SpanPair joined(Span a, Span b) {
  if (a.empty()) {
    return {b.empty() ? Span{} : b, Span{}};
  }
  if (b.empty()) {
    return {a, Span{}};
  }
  if (b.begin <= a.end) {
    return {Span{a.begin, max_(a.end, b.end)}, Span{}};
  }
  return {a, b};
}

/// Positions of the chunks from the one of q_first to the one of q_last; all without a chunk, none where q_last's comes first.
FOVEA_FN constexpr Span positions_of_chunks(KvRange range, int32_t q_first, int32_t q_last) {
  if (range.chunk == 0) {
    return {0, kUnbounded};
  }
  return {max_(0, q_first / range.chunk * range.chunk), max_(0, (q_last / range.chunk + 1) * range.chunk)};
}

/// Positions that some row at q_lo..q_hi (inclusive) may see.
FOVEA_FN constexpr SpanPair positions_some_see(KvRange range, int32_t q_lo, int32_t q_hi) {
  const Span chunks = positions_of_chunks(range, q_lo, q_hi);
  const int32_t top = min_(range.right == kUnbounded ? kUnbounded : max_(0, q_hi + range.right + 1), chunks.end);
  const int32_t bottom = max_(range.left == kUnbounded ? 0 : max_(0, q_lo - range.left), chunks.begin);
  return joined(Span{chunks.begin, min_(range.num_sink, top)}, Span{bottom, top});
}

/// Positions that every row at q_lo..q_hi may see.
FOVEA_FN constexpr SpanPair positions_all_see(KvRange range, int32_t q_lo, int32_t q_hi) {
  const Span chunks = positions_of_chunks(range, q_hi, q_lo);
  const int32_t top = min_(range.right == kUnbounded ? kUnbounded : max_(0, q_lo + range.right + 1), chunks.end);
  const int32_t bottom = max_(range.left == kUnbounded ? 0 : max_(0, q_hi - range.left), chunks.begin);
  return joined(Span{chunks.begin, min_(range.num_sink, top)}, Span{bottom, top});
}

/// First column at or after a position. Columns stand at kv_pos + c * stride.
FOVEA_FN constexpr int32_t column_at(const RowGroup& group, int32_t position) {
  const int32_t offset = position - group.kv_pos;
  if (offset <= 0) {
    return 0;
  }
  const int32_t column = group.kv_pos_stride == 1 ? offset : ceil_div(offset, group.kv_pos_stride);
  return min_(column, group.num_cols);
}

FOVEA_FN constexpr Span columns_of(const RowGroup& group, Span positions) {
  return {column_at(group, positions.begin), column_at(group, positions.end)};
}

FOVEA_FN constexpr SpanPair columns_of(const RowGroup& group, SpanPair positions) {
  return joined(columns_of(group, positions.first), columns_of(group, positions.second));
}

/// Inclusive range of query positions of some rows.
struct QueryPositions {
  int32_t lo, hi;
};

/// Columns of `group` that some row may see: what has to be computed. `by_index` formats know their positions at run only: all columns.
FOVEA_FN constexpr SpanPair visible_columns(const RowGroup& group, KvRange range, QueryPositions q, bool by_index) {
  if (by_index) {
    return {Span{0, group.num_cols}, Span{}};
  }
  return columns_of(group, positions_some_see(range, q.lo, q.hi));
}

/// Columns of `group` that every row sees for certain: tiles inside need no `keep`.
FOVEA_FN constexpr SpanPair full_columns(const RowGroup& group, KvRange range, QueryPositions q, bool by_index) {
  if (by_index || !range.exact) {
    return {};
  }
  return columns_of(group, positions_all_see(range, q.lo, q.hi));
}

/// The kv tiles that some row may see, numbered 0 .. count() in column order: first.begin.., then second.begin... Tiles start at multiples
/// of tile_kv columns of the group, so that a column's tile never depends on mask, rows or split.
struct VisibleTiles {
  Span first, second;  // tile indices
  FOVEA_FN constexpr int32_t count() const { return first.length() + second.length(); }
  /// Tile index of the n-th visible tile, 0 <= n < count().
  FOVEA_FN constexpr int32_t tile(int32_t n) const { return n < first.length() ? first.begin + n : second.begin + (n - first.length()); }
};

/// Is one span all that positions_some_see() can be?
FOVEA_FN constexpr bool is_one_span(KvRange range) { return range.num_sink == 0 && range.chunk == 0; }

/// visible_columns() of a range that is_one_span(), of columns in order one apart.
FOVEA_FN constexpr Span visible_span(KvRange range, QueryPositions q, int32_t kv_pos, int32_t num_cols) {
  const int32_t top = range.right == kUnbounded ? kUnbounded : q.hi + range.right + 1;
  const int32_t bottom = range.left == kUnbounded ? 0 : max_(0, q.lo - range.left);
  return {min_(num_cols, max_(0, bottom - kv_pos)), min_(num_cols, max_(0, top - kv_pos))};
}

/// A divisor known to be a power of two: shifts where a run-time divisor would divide.
struct PowerOfTwo {
  int32_t shift;
};
FOVEA_FN constexpr int32_t operator/(int32_t a, PowerOfTwo b) { return a >> b.shift; }
FOVEA_FN constexpr int32_t ceil_div(int32_t a, PowerOfTwo b) { return (a + (1 << b.shift) - 1) >> b.shift; }

/// `tile_kv`: int32_t or PowerOfTwo.
template <class TileKv>
FOVEA_FN constexpr VisibleTiles visible_tiles(SpanPair columns, TileKv tile_kv) {
  const Span a{columns.first.begin / tile_kv, ceil_div(columns.first.end, tile_kv)};
  const Span b{columns.second.begin / tile_kv, ceil_div(columns.second.end, tile_kv)};
  const SpanPair tiles = joined(columns.first.empty() ? Span{} : a, columns.second.empty() ? Span{} : b);
  return {tiles.first, tiles.second};
}

}  // namespace fovea
