// KvRange against the definition, one (query, key) pair at a time, over random ranges, groups and tiles.
#include "portable/kv_range.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "portable/work_iterator.h"
#include "variants/causal.h"
#include "variants/chunked_local.h"
#include "variants/sliding_window.h"

namespace fovea {
namespace {

/// The definition in the header's words.
bool may_see(KvRange range, std::int64_t q, std::int64_t k) {
  const bool left = range.left == kUnbounded || k >= q - range.left;
  const bool right = range.right == kUnbounded || k <= q + range.right;
  const bool chunk = range.chunk == 0 || q / range.chunk == k / range.chunk;
  return right && (left || k < range.num_sink) && chunk;
}

class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) {}
  std::int32_t in(std::int32_t lo, std::int32_t hi) { return std::uniform_int_distribution<std::int32_t>(lo, hi)(random_); }
  bool one_in(int n) { return in(1, n) == 1; }

  KvRange range() {
    KvRange r;
    r.left = one_in(3) ? kUnbounded : in(0, 12);
    r.right = one_in(3) ? kUnbounded : in(0, 6);
    r.num_sink = one_in(2) ? 0 : in(0, 9);
    r.chunk = one_in(2) ? 0 : in(1, 12);
    r.exact = 1;
    return r;
  }
  RowGroup group() {
    RowGroup g{};
    g.num_cols = in(0, 40);
    g.kv_pos = one_in(2) ? 0 : in(0, 20);
    g.kv_pos_stride = one_in(2) ? 1 : in(1, 5);
    return g;
  }
  QueryPositions queries() {
    const std::int32_t lo = in(-10, 50);
    return {lo, lo + in(0, 8)};
  }

 private:
  std::mt19937 random_;
};

bool in_pair(SpanPair pair, std::int32_t i) { return pair.contains(Span{i, i + 1}); }

std::int32_t position_of(const RowGroup& g, std::int32_t column) { return g.kv_pos + column * g.kv_pos_stride; }

bool some_sees(KvRange range, QueryPositions q, std::int32_t k) {
  for (std::int32_t p = q.lo; p <= q.hi; ++p) {
    if (may_see(range, p, k)) {
      return true;
    }
  }
  return false;
}

bool all_see(KvRange range, QueryPositions q, std::int32_t k) {
  for (std::int32_t p = q.lo; p <= q.hi; ++p) {
    if (!may_see(range, p, k)) {
      return false;
    }
  }
  return true;
}

void expect_tidy(SpanPair pair, std::int32_t limit) {
  ASSERT_LE(0, pair.first.begin);
  ASSERT_LE(pair.first.begin, pair.first.end);
  ASSERT_LE(pair.first.end, limit);
  if (!pair.second.empty()) {
    ASSERT_LT(pair.first.end, pair.second.begin) << "spans that touch must be one";
    ASSERT_FALSE(pair.first.empty());
    ASSERT_LE(pair.second.end, limit);
  }
}

TEST(KvRange, VisibleColumnsAreAllThatSomeRowSees) {
  Draw draw(1);
  for (int n = 0; n < 40000; ++n) {
    const KvRange range = draw.range();
    const RowGroup group = draw.group();
    const QueryPositions q = draw.queries();
    const SpanPair columns = visible_columns(group, range, q, false);
    expect_tidy(columns, group.num_cols);
    for (std::int32_t c = 0; c < group.num_cols; ++c) {
      if (some_sees(range, q, position_of(group, c))) {
        ASSERT_TRUE(in_pair(columns, c)) << "column " << c << " is seen but skipped";
      } else {
        ASSERT_FALSE(in_pair(columns, c)) << "column " << c << " is seen by none: nobody may read it";
      }
    }
  }
}

TEST(KvRange, FullColumnsAreAllThatEveryRowSees) {
  Draw draw(2);
  for (int n = 0; n < 40000; ++n) {
    const KvRange range = draw.range();
    const RowGroup group = draw.group();
    const QueryPositions q = draw.queries();
    const SpanPair columns = full_columns(group, range, q, false);
    expect_tidy(columns, group.num_cols);
    for (std::int32_t c = 0; c < group.num_cols; ++c) {
      // Where sinks end inside one row's window and before another's, a column can be seen by every row for different reasons: missing it
      // is sound.
      if (in_pair(columns, c)) {
        ASSERT_TRUE(all_see(range, q, position_of(group, c))) << c;
      } else if (range.num_sink == 0) {
        ASSERT_FALSE(all_see(range, q, position_of(group, c))) << c;
      }
    }
  }
}

TEST(KvRange, InexactRangesAndStorageIndicesHaveNoFullColumns) {
  RowGroup group{};
  group.num_cols = 10;
  group.kv_pos_stride = 1;
  EXPECT_EQ(full_columns(group, KvRange{}, {0, 0}, false).first.length(), 0);
  EXPECT_EQ(full_columns(group, KvRange{.exact = 1}, {0, 0}, true).first.length(), 0);
  EXPECT_EQ(full_columns(group, KvRange{.exact = 1}, {0, 0}, false).first.length(), 10);
  EXPECT_EQ(visible_columns(group, KvRange{.left = 0, .right = 0}, {99, 99}, true).first.length(), 10);
}

TEST(KvRange, IntersectionHoldsBothAndIsExactWhereItSaysSo) {
  Draw draw(3);
  int exact = 0;
  for (int n = 0; n < 20000; ++n) {
    KvRange a = draw.range(), b = draw.range();
    a.exact = draw.in(0, 1);
    b.exact = draw.in(0, 1);
    const KvRange both = intersect(a, b);
    ASSERT_LE(both.exact, a.exact & b.exact);
    exact += both.exact;
    for (std::int32_t q = -5; q < 40; q += 3) {
      for (std::int32_t k = 0; k < 45; ++k) {
        const bool expected = may_see(a, q, k) && may_see(b, q, k);
        ASSERT_TRUE(!expected || may_see(both, q, k)) << "not a superset";
        ASSERT_TRUE(!both.exact || expected == may_see(both, q, k)) << "exact, but differs";
      }
    }
  }
  EXPECT_GT(exact, 1000);
}

TEST(KvRange, UnboundedRangeSeesEverything) {
  for (const std::int32_t q : {-kAnyPosition, -1, 0, kAnyPosition}) {
    EXPECT_EQ(positions_some_see(KvRange{}, q, q).first.end, kUnbounded);
    EXPECT_EQ(positions_all_see(KvRange{}, q, q).first.begin, 0);
  }
  EXPECT_TRUE(positions_some_see(KvRange{.right = 0}, -7, -3).first.empty());
}

/// Bounds so large that their sum with a position is over kUnbounded, and positions at the edge of what is allowed.
TEST(KvRange, ExtremePositionsDoNotOverflow) {
  RowGroup group{};
  group.num_cols = (1 << 29) - 1;
  group.kv_pos_stride = 1;
  const QueryPositions everywhere{-kAnyPosition, kAnyPosition};
  for (const std::int32_t left : {0, 1, 1 << 29, kUnbounded - 1, kUnbounded}) {
    for (const std::int32_t right : {0, 1, 1 << 29, kUnbounded - 1, kUnbounded}) {
      const KvRange range{.left = left, .right = right, .num_sink = 4, .exact = 1};
      const SpanPair seen = visible_columns(group, range, everywhere, false);
      EXPECT_EQ(seen.first.begin, 0);
      EXPECT_EQ(seen.first.end, group.num_cols);
    }
  }
  group.kv_pos = (1 << 29) - 10;
  group.num_cols = 10;
  EXPECT_EQ(visible_columns(group, KvRange{.right = 0}, {0, 0}, false).first.length(), 0);
  EXPECT_EQ(visible_columns(group, KvRange{.left = 3}, {kAnyPosition - 1, kAnyPosition - 1}, false).first.length(), 4);
}

TEST(VisibleTiles, CoverTheVisibleColumnsAndNoTileTwice) {
  Draw draw(4);
  for (int n = 0; n < 40000; ++n) {
    const KvRange range = draw.range();
    const RowGroup group = draw.group();
    const QueryPositions q = draw.queries();
    const std::int32_t tile_kv = draw.in(1, 9);
    const SpanPair columns = visible_columns(group, range, q, false);
    const VisibleTiles tiles = visible_tiles(columns, tile_kv);
    std::vector<bool> needed(static_cast<std::size_t>(group.num_cols / tile_kv + 1));
    for (std::int32_t c = 0; c < group.num_cols; ++c) {
      if (in_pair(columns, c)) {
        needed[static_cast<std::size_t>(c / tile_kv)] = true;
      }
    }
    std::int32_t count = 0, last = -1;
    for (std::int32_t i = 0; i < tiles.count(); ++i) {
      ASSERT_GT(tiles.tile(i), last);
      last = tiles.tile(i);
      ASSERT_TRUE(needed[static_cast<std::size_t>(last)]);
      ++count;
    }
    ASSERT_EQ(count, std::count(needed.begin(), needed.end(), true));
  }
}

/// What built-in masks say of themselves in closed form is what `keep` keeps.
template <class Mask>
void expect_range_is_keep(const Mask& mask) {
  const KvRange range = mask.range();
  ASSERT_EQ(range.exact, 1);
  for (std::int32_t q = -3; q < 40; ++q) {
    for (std::int32_t k = 0; k < 45; ++k) {
      Position<> at{};
      at.q_pos = q;
      at.kv_pos = k;
      ASSERT_EQ(static_cast<bool>(mask.keep(at)), may_see(range, q, k)) << q << " " << k;
    }
  }
}

TEST(BuiltInMasks, RangeIsKeep) {
  expect_range_is_keep(VariantBase::Mask{});
  expect_range_is_keep(Causal::Mask{});
  for (const std::int32_t window : {0, 1, 7, 100}) {
    ChunkedLocal::Mask chunked{};
    chunked.chunk_size = window + 1;
    expect_range_is_keep(chunked);
    for (const std::int32_t sinks : {0, 1, 5, 60}) {
      SlidingWindow::Mask mask{};
      mask.window_left = window;
      mask.num_sink_tokens = sinks;
      expect_range_is_keep(mask);
    }
  }
}

}  // namespace
}  // namespace fovea
