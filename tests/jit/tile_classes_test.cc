// Opaque masks get their skipping back from classes of tiles: the caller's, taken at their word, or computed from `keep`.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/jit/fixture.h"

namespace fovea::test {
namespace {

constexpr std::int32_t kQueries = 200, kKeys = 700, kHeads = 2;

/// Every third key of the query's own stretch of 128 positions and of the one before; with `by_head`, of its own for odd heads.
const Variant kOpaque = Variant::from_source("stretches", R"(
struct Stretches : VariantBase {
  struct Mask {
    int32_t by_head = 0;
    FOVEA_FN bool keep(const Position<>& at) const {
      if (at.kv_pos % 3 == 1) {
        return false;
      }
      const int apart = at.q_pos / 128 - at.kv_pos / 128;
      return apart == 0 || (apart == 1 && (by_head == 0 || at.qo_head % 2 == 0));
    }
    FOVEA_FN constexpr KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_OPTIONAL(by_head))
  };
  Mask m;
};
)");

bool seen(std::int32_t q_pos, std::int32_t kv_pos, std::int32_t head, bool by_head) {
  const std::int32_t apart = q_pos / 128 - kv_pos / 128;
  return kv_pos % 3 != 1 && (apart == 0 || (apart == 1 && (!by_head || head % 2 == 0)));
}

class TileClassesOfOpaqueMasks : public testing::Test {
 protected:
  struct Results {
    std::vector<float> o = std::vector<float>(static_cast<std::size_t>(kQueries * kHeads * 8));
    TileCounts counts;
  };

  TileClassesOfOpaqueMasks() {
    for (std::size_t i = 0; i < k_.size(); ++i) {
      k_[i] = static_cast<float>(i % 13) * 0.125f - 0.7f;
      v_[i] = static_cast<float>(i % 29) * 0.25f - 3.0f;
    }
    for (std::size_t i = 0; i < q_.size(); ++i) {
      q_[i] = static_cast<float>(i % 7) * 0.25f - 0.7f;
    }
  }

  Batch batch() const { return {.qo_indptr = TensorView::of(qo_indptr_), .kv = {&tables_, 1}}; }

  Results run(const MaskValues& mask, bool any = false) {
    Results results;
    Plan plan = attention_.new_plan();
    const MaskValues planned = any ? MaskValues{.any = true} : mask;
    attention_.plan(plan, batch(), {.masks = {&planned, 1}});
    const KvCache cache{.k = TensorView::contiguous(k_.data(), DType::f32, {kKeys, 1, 8}),
                        .v = TensorView::contiguous(v_.data(), DType::f32, {kKeys, 1, 8})};
    RunArgs args{.q = TensorView::contiguous(q_.data(), DType::f32, {kQueries, kHeads, 8}),
                 .kv = {&cache, 1},
                 .o = TensorView::contiguous(results.o.data(), DType::f32, {kQueries, kHeads, 8})};
    if (any) {
      args.mask = mask;
    } else {
      results.counts = attention_.count_tiles(plan);
    }
    attention_.run(plan, args);
    return results;
  }

  FreshCache cache_;
  Engine engine_;
  Attention attention_ =
      engine_.prepare(small_spec(kOpaque), {.max_requests = 1, .max_query_tokens = kQueries, .max_kv_tokens_per_request = kKeys});
  std::vector<float> q_ = std::vector<float>(static_cast<std::size_t>(kQueries * kHeads * 8));
  std::vector<float> k_ = std::vector<float>(static_cast<std::size_t>(kKeys * 8)), v_ = k_;
  std::vector<std::int32_t> qo_indptr_{0, kQueries}, kv_indptr_{0, kKeys};
  KvTables tables_ = KvTables::ragged(TensorView::of(kv_indptr_));
};

TEST_F(TileClassesOfOpaqueMasks, ComputedOnesSkipAndChangeNoBit) {
  const Results plain = run({});
  EXPECT_EQ(plain.counts.empty, 0);
  EXPECT_EQ(plain.counts.full, 0);
  const ClassifiedTiles tiles = attention_.classify_tiles(batch(), {});
  EXPECT_FALSE(tiles.per_head) << "all heads are alike";
  const MaskValues with_tiles{.tiles = tiles.view()};
  const Results skipping = run(with_tiles);
  EXPECT_GT(skipping.counts.empty, skipping.counts.mixed) << "five of seven stretches are empty";
  EXPECT_EQ(skipping.o, plain.o);
  EXPECT_EQ(run(with_tiles, true).o, plain.o) << "planned as `any`, tiles with the run";
}

TEST_F(TileClassesOfOpaqueMasks, AreWhatThePairsSay) {
  for (const bool by_head : {false, true}) {
    const Value values{"by_head", by_head ? 1 : 0};
    const MaskValues mask{.values = {&values, 1}};
    for (const auto& [tile_q, tile_kv] : {std::pair{64, 64}, {7, 1}, {300, 3}, {1, 128}}) {
      const ClassifiedTiles tiles = attention_.classify_tiles(batch(), mask, {.tile_q = tile_q, .tile_kv = tile_kv});
      EXPECT_EQ(tiles.per_head, by_head);
      std::size_t n = 0;
      for (std::int32_t head = 0; head < (by_head ? kHeads : 1); ++head) {
        for (std::int32_t i = 0; i < kQueries; i += tile_q) {
          for (std::int32_t j = 0; j < kKeys; j += tile_kv) {
            bool any = false, all = true;
            for (std::int32_t q = i; q < std::min(i + tile_q, kQueries); ++q) {
              for (std::int32_t k = j; k < std::min(j + tile_kv, kKeys); ++k) {
                const bool one = seen(kKeys - kQueries + q, k, head, by_head);
                any |= one;
                all &= one;
              }
            }
            ASSERT_EQ(tiles.classes[n++], all ? 2 : (any ? 1 : 0)) << i << " " << j;
          }
        }
      }
      ASSERT_EQ(n, tiles.classes.size());
      EXPECT_EQ(run({.values = mask.values, .tiles = tiles.view()}).o, run(mask).o);
    }
  }
}

TEST_F(TileClassesOfOpaqueMasks, AreTheSameForAnyNumberOfThreads) {
  const Value values{"by_head", 1};
  const MaskValues mask{.values = {&values, 1}};
  const ClassifiedTiles expected = attention_.classify_tiles(batch(), mask, {.tile_q = 7, .tile_kv = 16});
  for (const int threads : {1, 2, 5}) {
    const Attention attention =
        Engine({.num_threads = threads})
            .prepare(small_spec(kOpaque), {.max_requests = 1, .max_query_tokens = kQueries, .max_kv_tokens_per_request = kKeys});
    const ClassifiedTiles tiles = attention.classify_tiles(batch(), mask, {.tile_q = 7, .tile_kv = 16});
    EXPECT_EQ(tiles.classes, expected.classes) << threads;
    EXPECT_EQ(tiles.class_indptr, expected.class_indptr) << threads;
  }
}

/// What can't be seen otherwise: a class that lies shows that the mask wasn't asked.
TEST_F(TileClassesOfOpaqueMasks, FullOnesAreNotAskedAndEmptyOnesNotTouched) {
  ClassifiedTiles tiles = attention_.classify_tiles(batch(), {}, {.tile_q = kQueries, .tile_kv = 64});
  ASSERT_EQ(tiles.classes.size(), 11u);
  const std::vector<float> honest = run({.tiles = tiles.view()}).o;
  // Rows stand at 500..699, in stretches 3 to 5: the last four tiles hold what the last row sees.
  ASSERT_EQ(tiles.classes[8], 1);
  tiles.classes[8] = 0;
  const std::vector<float> without = run({.tiles = tiles.view()}).o;
  EXPECT_NE(without, honest);
  for (std::int32_t i = 0; i < 64 * 8; ++i) {
    v_[static_cast<std::size_t>(8 * 64 * 8 + i)] = 1e30f;
  }
  EXPECT_EQ(run({.tiles = tiles.view()}).o, without) << "values of an empty tile don't matter";
  tiles.classes[8] = 2;
  const std::vector<float> with_all = run({.tiles = tiles.view()}).o;
  EXPECT_TRUE(std::all_of(with_all.begin(), with_all.end(), [](float x) { return x > 1e20f; })) << "every row sees the tile";
}

TEST_F(TileClassesOfOpaqueMasks, BelongToTheMask) {
  const ClassifiedTiles tiles = attention_.classify_tiles(batch(), {}), others = tiles;
  const MaskValues mask{.tiles = tiles.view()}, wrong{.tiles = others.view()};
  Plan plan = attention_.new_plan();
  MaskValues any{.any = true, .tiles = tiles.view()};
  EXPECT_EQ(message_of([&] {
              attention_.plan(plan, batch(), {.masks = {&any, 1}});
            }),
            "plan: mask group 0 is `any` and has tiles; what is known of a mask's tiles comes with the mask");
  EXPECT_EQ(message_of([&] { attention_.classify_tiles(batch(), any); }),
            "classify_tiles: the mask is `any`; give the values of the mask to classify");
  attention_.plan(plan, batch(), {.masks = {&mask, 1}});
  const KvCache cache{.k = TensorView::contiguous(k_.data(), DType::f32, {kKeys, 1, 8}),
                      .v = TensorView::contiguous(v_.data(), DType::f32, {kKeys, 1, 8})};
  RunArgs args{.q = TensorView::contiguous(q_.data(), DType::f32, {kQueries, kHeads, 8}), .kv = {&cache, 1}};
  args.mask = wrong;
  EXPECT_EQ(
      message_of([&] { attention_.run(plan, args); }),
      "run: the mask's tiles are not those the plan was made with; a mask belongs to the plan: plan again, or plan this mask group as "
      "`any`");
}

}  // namespace
}  // namespace fovea::test
