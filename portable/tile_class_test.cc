// What masks say of tiles against every pair in them: sound always, exact where the mask says so. All built-in masks, and 1,000 random
// compositions of them.
#include "portable/tile_class.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "portable/compose.h"
#include "variants/causal.h"
#include "variants/chunked_local.h"
#include "variants/custom_mask.h"
#include "variants/document.h"
#include "variants/full.h"
#include "variants/prefix_lm.h"
#include "variants/sliding_window.h"
#include "variants/soft_cap.h"

namespace fovea {
namespace {

/// A mask by head and column tile, as a block-sparse mask has it: heads are intervals too.
struct HeadTiles {
  static constexpr std::int32_t kColumns = 8;
  Table2D<std::int32_t> wanted;
  template <class I>
  auto keep(const Position<I>& at) const {
    return wanted(at.qo_head, at.kv_pos / kColumns) != 0;
  }
};

/// Written for integers alone.
struct OpaqueMask {
  std::int32_t step;
  bool keep(const Position<>& at) const { return (at.kv_pos ^ at.q_pos) % step == 0; }
  constexpr KvRange range() const { return {}; }
  FOVEA_FIELDS(OpaqueMask)
};
struct Opaque : VariantBase {
  using Mask = OpaqueMask;
  Mask m;
};

struct Request {
  std::int32_t qo_len, kv_len, q_pos;
};

struct AnyMask {
  std::string name;
  bool exact;
  std::function<bool(const Position<>&)> keep;
  std::function<Tri(const Position<Interval>&)> keep_tile;
};

template <class Mask>
AnyMask any_mask(const std::string& name, const Mask& mask, bool exact = tile_answer<Mask>() == TileAnswer::exact) {
  return {name, exact, [mask](const Position<>& at) { return static_cast<bool>(mask.keep(at)); },
          [mask](const Position<Interval>& tile) { return Tri(keep_of(mask, tile)); }};
}

class World {
 public:
  explicit World(unsigned seed) : random_(seed) {
    const int num_requests = in(1, 4);
    for (int r = 0; r < num_requests; ++r) {
      const std::int32_t kv_len = in(1, 60), qo_len = in(1, 20);
      requests.push_back({qo_len, kv_len, one_in(2) ? kv_len - qo_len : in(-3, kv_len)});
    }
    make_bits();
    make_documents();
    for (const Request& r : requests) {
      prefixes.push_back(in(0, r.kv_len));
    }
    for (int i = 0; i < kHeads * 8; ++i) {
      wanted.push_back(one_in(2));
    }
  }

  static constexpr int kHeads = 6;
  std::int32_t in(std::int32_t lo, std::int32_t hi) { return std::uniform_int_distribution<std::int32_t>(lo, hi)(random_); }
  bool one_in(int n) { return in(1, n) == 1; }

  /// All masks, with random values.
  std::vector<AnyMask> masks() {
    const Table<std::int32_t> bit_begin = table(bit_indptr), prefix = table(prefixes);
    CustomMask::Mask bits{.mask_bits = {bit_bytes.data(), static_cast<std::int64_t>(bit_bytes.size())}, .mask_indptr = bit_begin};
    Document::Mask documents{.document_ids = table(document_ids), .document_indptr = table(document_indptr)};
    SlidingWindow::Mask window{.window_left = in(0, 30)}, window_and_sinks{.window_left = in(0, 20), .num_sink_tokens = in(1, 12)};
    return {any_mask("full", Full::Mask{}),
            any_mask("causal", Causal::Mask{}),
            any_mask("window", window, true),
            any_mask("window and sinks", window_and_sinks),
            any_mask("chunked_local", ChunkedLocal::Mask{.chunk_size = in(1, 20)}),
            any_mask("prefix_lm", PrefixLm::Mask{.prefix_len = prefix}),
            any_mask("document", documents),
            any_mask("custom_mask", bits),
            any_mask("by head", HeadTiles{{wanted.data(), kHeads, 8, 8}}, true),
            any_mask("opaque", OpaqueMask{in(1, 3)})};
  }

  /// A tile of one request, mostly; sometimes of several, as rows of a shared prefix are.
  Position<Interval> tile(bool aligned, bool one_request) {
    const int first = in(0, static_cast<int>(requests.size()) - 1);
    const int last = one_request ? first : in(first, static_cast<int>(requests.size()) - 1);
    Position<Interval> tile{};
    tile.request = {first, last};
    const Request& r = requests[static_cast<std::size_t>(first)];
    const std::int32_t rows = in(1, 8), columns = aligned ? 8 : in(1, 16);
    const std::int32_t q = std::min(in(0, r.qo_len - 1), r.qo_len - 1);
    tile.qo_idx = {q, std::min(q + rows, r.qo_len) - 1};
    tile.q_pos = tile.qo_idx + Interval(r.q_pos);
    tile.qo_len = r.qo_len;
    tile.kv_len = r.kv_len;
    std::int32_t k = in(0, r.kv_len - 1);
    k = aligned ? k / columns * columns : k;
    tile.kv_pos = {k, std::min(k + columns, r.kv_len) - 1};
    const std::int32_t head = in(0, kHeads - 1);
    tile.qo_head = {head, in(head, kHeads - 1)};
    tile.kv_head = tile.qo_head / 2;
    for (int n = first + 1; n <= last; ++n) {
      const Request& other = requests[static_cast<std::size_t>(n)];
      tile.qo_idx = hull(tile.qo_idx, {0, other.qo_len - 1});
      tile.q_pos = hull(tile.q_pos, {other.q_pos, other.q_pos + other.qo_len - 1});
      tile.qo_len = hull(tile.qo_len, other.qo_len);
      tile.kv_len = hull(tile.kv_len, other.kv_len);
      tile.kv_pos = hull(tile.kv_pos, {0, other.kv_len - 1});
    }
    return tile;
  }

  /// Every pair of the tile; false stops.
  template <class Visit>
  void for_each_pair(const Position<Interval>& tile, const Visit& visit) const {
    for (std::int32_t n = tile.request.lo; n <= tile.request.hi; ++n) {
      const Request& r = requests[static_cast<std::size_t>(n)];
      for (std::int32_t i = std::max(0, tile.qo_idx.lo); i <= std::min(tile.qo_idx.hi, r.qo_len - 1); ++i) {
        if (r.q_pos + i < tile.q_pos.lo || r.q_pos + i > tile.q_pos.hi) {
          continue;  // of several requests, another one's rows
        }
        for (std::int32_t k = tile.kv_pos.lo; k <= std::min(tile.kv_pos.hi, r.kv_len - 1); ++k) {
          for (std::int32_t head = tile.qo_head.lo; head <= tile.qo_head.hi; ++head) {
            visit(Position<>{n, i, r.q_pos + i, k, head, head / 2, r.qo_len, r.kv_len});
          }
        }
      }
    }
  }

  std::vector<Request> requests;

 private:
  static Table<std::int32_t> table(const std::vector<std::int32_t>& values) {
    return {values.data(), static_cast<std::int32_t>(values.size())};
  }
  void make_bits() {
    bit_indptr.push_back(0);
    for (const Request& r : requests) {
      const int kind = in(0, 2);
      for (int byte = 0; byte < (r.qo_len * r.kv_len + 7) / 8; ++byte) {
        bit_bytes.push_back(static_cast<std::uint8_t>(kind == 0 || one_in(9) ? in(0, 255) : kind == 1 ? 0 : 255));
      }
      bit_indptr.push_back(static_cast<std::int32_t>(bit_bytes.size()));
    }
  }
  void make_documents() {
    document_indptr.push_back(0);
    for (const Request& r : requests) {
      std::int32_t id = in(-2, 2);
      for (std::int32_t k = 0; k < r.kv_len; ++k) {
        id += one_in(9) ? in(1, 2) : 0;
        document_ids.push_back(id);
      }
      document_indptr.push_back(static_cast<std::int32_t>(document_ids.size()));
    }
  }

  std::mt19937 random_;
  std::vector<std::uint8_t> bit_bytes;
  std::vector<std::int32_t> bit_indptr, document_ids, document_indptr, prefixes, wanted;
};

struct Found {
  bool any = false, all = true, none = true;  // none: the tile holds no pair
};

Found found_in(const World& world, const Position<Interval>& tile, const std::function<bool(const Position<>&)>& keep) {
  Found found;
  world.for_each_pair(tile, [&](const Position<>& at) {
    const bool kept = keep(at);
    found.any |= kept;
    found.all &= kept;
    found.none = false;
  });
  return found;
}

TEST(TileClass, BuiltInMasksAreSoundAndExactWhereTheySaySo) {
  int empty = 0, full = 0;
  for (unsigned seed = 0; seed < 400; ++seed) {
    World world(seed);
    for (const AnyMask& mask : world.masks()) {
      for (int n = 0; n < 25; ++n) {
        const bool one_request = n % 5 != 0;
        const Position<Interval> tile = world.tile(n % 2 == 0, one_request);
        const Found found = found_in(world, tile, mask.keep);
        const Tri answer = mask.keep_tile(tile);
        ASSERT_TRUE(answer.may || !found.any) << mask.name << ": a kept pair in an empty tile, world " << seed;
        ASSERT_TRUE(!answer.must || found.all) << mask.name << ": a dropped pair in a full tile, world " << seed;
        if (mask.exact && one_request) {
          ASSERT_EQ(answer.may, found.any) << mask.name << ", world " << seed;
          ASSERT_EQ(answer.must, found.all) << mask.name << ", world " << seed;
        }
        if (mask.name == "window and sinks" && one_request) {
          ASSERT_EQ(answer.may, found.any) << "empty tiles of windows with sink tokens are exact, world " << seed;
        }
        empty += answer.may ? 0 : 1;
        full += answer.must ? 1 : 0;
      }
    }
  }
  EXPECT_GT(empty, 5000);
  EXPECT_GT(full, 5000);
}

/// Documents with sorted ids: ranges of ids that meet have an id in common if every id between them is some token's. Ids may have gaps, so
/// only full tiles are exact in general.
TEST(TileClass, DocumentsOfConsecutiveSortedIdsAreExact) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::vector<std::int32_t> ids{0};
    while (ids.size() < 64) {
      ids.push_back(ids.back() + (random() % 7 == 0 ? 1 : 0));
    }
    const std::vector<std::int32_t> indptr{0, 64};
    const Document::Mask mask{.document_ids = {ids.data(), 64}, .document_indptr = {indptr.data(), 2}};
    for (int n = 0; n < 100; ++n) {
      const std::int32_t q = static_cast<std::int32_t>(random() % 60), k = static_cast<std::int32_t>(random() % 60);
      const Position<Interval> tile{0, {q, q + 3}, {q, q + 3}, {k, k + 3}, 0, 0, 64, 64};
      bool any = false, all = true;
      for (std::int32_t i = q; i < q + 4; ++i) {
        for (std::int32_t j = k; j < k + 4; ++j) {
          any |= ids[static_cast<std::size_t>(i)] == ids[static_cast<std::size_t>(j)];
          all &= ids[static_cast<std::size_t>(i)] == ids[static_cast<std::size_t>(j)];
        }
      }
      ASSERT_EQ(classify(mask, tile), all ? TileClass::full : (any ? TileClass::mixed : TileClass::empty)) << seed;
    }
  }
}

TEST(TileClass, AThousandRandomCompositionsAreSound) {
  int decided = 0;
  for (unsigned seed = 0; seed < 1000; ++seed) {
    World world(seed + 5000);
    const std::vector<AnyMask> masks = world.masks();
    std::vector<AnyMask> parts;
    for (int count = world.in(2, 4); count > 0; --count) {
      parts.push_back(masks[static_cast<std::size_t>(world.in(0, static_cast<int>(masks.size()) - 1))]);
    }
    const auto keep = [&](const Position<>& at) {
      return std::all_of(parts.begin(), parts.end(), [&](const AnyMask& part) { return part.keep(at); });
    };
    for (int n = 0; n < 15; ++n) {
      const Position<Interval> tile = world.tile(n % 2 == 0, n % 5 != 0);
      Tri answer = true;
      for (const AnyMask& part : parts) {
        answer = both_of(answer, part.keep_tile(tile));
      }
      const Found found = found_in(world, tile, keep);
      ASSERT_TRUE(answer.may || !found.any) << "composition " << seed << ": a kept pair in an empty tile";
      ASSERT_TRUE(!answer.must || found.all) << "composition " << seed << ": a dropped pair in a full tile";
      decided += !answer.may || answer.must ? 1 : 0;
    }
  }
  EXPECT_GT(decided, 5000);
}

/// Compose<> says what its parts say.
TEST(TileClass, CompositionsOfTypesAreThoseOfTheirParts) {
  using Rule = Compose<Causal, SlidingWindow, SoftCap>;
  using MixedRule = Pair<Causal, SlidingWindow>;
  static_assert(tile_answer<Compose<Causal, SoftCap>::Mask>() == TileAnswer::exact);
  static_assert(tile_answer<Compose<SoftCap, Causal>::Mask>() == TileAnswer::exact);
  static_assert(tile_answer<Compose<SoftCap, SoftCap>::Mask>() == TileAnswer::exact);
  static_assert(tile_answer<Rule::Mask>() == TileAnswer::sound);
  static_assert(tile_answer<OpaqueMask>() == TileAnswer::opaque);
  World world(1);
  for (int n = 0; n < 2000; ++n) {
    const Position<Interval> tile = world.tile(false, true);
    Rule::Mask mask{};
    mask.a.b.window_left = world.in(0, 20);
    mask.a.b.num_sink_tokens = world.in(0, 9);
    const Tri a = mask.a.a.keep(tile), b = mask.a.b.keep(tile), both = mask.keep(tile);
    ASSERT_EQ(both.may, a.may && b.may);
    ASSERT_EQ(both.must, a.must && b.must);
    ASSERT_EQ(classify(OpaqueMask{3}, tile), TileClass::mixed);
  }
  static_assert(!kKeepsAll<MixedRule::Mask>);
  // An opaque part leaves the others their empty tiles.
  using WithOpaque = Compose<Causal, Opaque>;
  static_assert(tile_answer<WithOpaque::Mask>() == TileAnswer::sound);
  const Position<Interval> later{0, 0, 3, {4, 9}, 0, 0, 8, 16}, before{0, 0, 9, {4, 9}, 0, 0, 8, 16};
  EXPECT_EQ(classify(WithOpaque::Mask{{}, {1}}, later), TileClass::empty);
  EXPECT_EQ(classify(WithOpaque::Mask{{}, {1}}, before), TileClass::mixed);
}

}  // namespace
}  // namespace fovea
