#include "src/problem/batch_fixtures.h"
#include "src/problem/error_cases.h"

namespace fovea::test {
namespace {

/// Two requests of 5 and 1 query tokens over 9 and 3 keys, in tiles of 2 x 4: 3 x 3 and 1 x 1 of them.
struct Tiles {
  std::vector<Request> requests{{0, 5, 9, 4}, {5, 1, 3, 2}};
  std::vector<std::uint8_t> classes = std::vector<std::uint8_t>(20, 1);
  Ints class_indptr{0, 9, 10};
  std::int32_t num_qo_heads = 2;
  TileClasses tiles{.classes = TensorView::contiguous(classes.data(), DType::u8, {20}),
                    .class_indptr = TensorView::of(class_indptr),
                    .tile_q = 2,
                    .tile_kv = 4};
  Tiles() = default;
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
  void check() { check_tiles("plan", tiles, {.requests = requests.data(), .num_requests = 2}, num_qo_heads); }
};

struct Classify {
  ClassifyOptions options;
  void check() { check_classify_options(options); }
};

}  // namespace

std::vector<ErrorCase> tiles_error_cases() {
  using T = Tiles;
  return {
      wrong<T>("plan: tiles.class_indptr is given without tiles.classes", [](T& t) { t.tiles.classes = {}; }),
      wrong<T>("plan: tiles of 0 query tokens x 4 positions; both must be 1 to 1073741824", [](T& t) { t.tiles.tile_q = 0; }),
      wrong<T>("plan: tiles of 2 query tokens x 2147483647 positions; both must be 1 to 1073741824",
               [](T& t) { t.tiles.tile_kv = 2147483647; }),
      wrong<T>("plan: tiles.classes has dtype i32; it needs u8", [](T& t) { t.tiles.classes.dtype = DType::i32; }),
      wrong<T>("plan: tiles.classes is on cuda:1 but the engine runs on cpu", [](T& t) { set_cuda(t.tiles.classes); }),
      wrong<T>("plan: tiles.class_indptr is not given; it needs one axis", [](T& t) { t.tiles.class_indptr = {}; }),
      wrong<T>("plan: tiles.class_indptr has 2 entries; it needs 3", [](T& t) { set_dim(t.tiles.class_indptr, 0, 2); }),
      wrong<T>("plan: tiles.class_indptr ends at 21 but there are 20 classes", [](T& t) { t.class_indptr[2] = 21; }),
      wrong<T>("plan: tiles.class_indptr[0] = -1 and [1] = 9; it must not decrease, from 0 or more on",
               [](T& t) { t.class_indptr[0] = -1; }),
      wrong<T>("plan: tiles.class_indptr[1] = 11 and [2] = 10; it must not decrease, from 0 or more on",
               [](T& t) { t.class_indptr[0] = 2, t.class_indptr[1] = 11; }),
      wrong<T>(
          "plan: tiles.class_indptr[1] = 1000000009 and [2] = 10; it must not decrease, from 0 or more on",  // and nothing is read there
          [](T& t) { t.class_indptr[0] = 1000000000, t.class_indptr[1] = 1000000009; }),
      wrong<T>("plan: tiles.class_indptr gives request 0 8 classes; it has 1 head x 3 x 3 tiles of 2 query tokens x 4 positions (qo_len 5, "
               "kv_len 9)",
               [](T& t) { t.class_indptr[1] = 8; }),
      wrong<T>("plan: tiles.class_indptr gives request 0 9 classes; it has 2 heads x 3 x 3 tiles of 2 query tokens x 4 positions (qo_len "
               "5, kv_len 9)",
               [](T& t) { t.tiles.per_head = true; }),
      wrong<T>("plan: tiles.classes[9] = 3 (request 1); a class is 0 (empty), 1 (mixed) or 2 (full)", [](T& t) { t.classes[9] = 3; }),
      wrong<Classify>("classify_tiles: tiles of 64 query tokens x 0 positions; both must be 1 to 1073741824",
                      [](Classify& c) { c.options.tile_kv = 0; }),
  };
}

}  // namespace fovea::test
