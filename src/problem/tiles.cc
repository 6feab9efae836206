// Classes of tiles that a caller gives beside a mask.
#include "portable/tile_class.h"
#include "src/problem/problem.h"
#include "src/problem/tensor_check.h"

namespace fovea {
namespace {

/// A length and a tile fit 32 bits together.
bool is_tile(std::int32_t tile_q, std::int32_t tile_kv) {
  return tile_q >= 1 && tile_kv >= 1 && tile_q <= kUnbounded && tile_kv <= kUnbounded;
}

/// Before any class is read: none lies outside of what was given.
void check_bounds(std::string_view where, const TileMap& map, std::int32_t num_requests, std::int64_t num_classes) {
  const std::int32_t last = map.class_indptr[num_requests];
  FOVEA_CHECK(last <= num_classes, "{}: tiles.class_indptr ends at {} but there are {} classes", where, last, num_classes);
  for (std::int32_t r = 0; r < num_requests; ++r) {
    const std::int32_t begin = map.class_indptr[r], end = map.class_indptr[r + 1];
    FOVEA_CHECK(begin >= 0 && end >= begin, "{}: tiles.class_indptr[{}] = {} and [{}] = {}; it must not decrease, from 0 or more on", where,
                r, begin, r + 1, end);
  }
}

/// Request r's classes are as many as its lengths say, and each is one.
void check_request(std::string_view where, const TileMap& map, std::int32_t r, const Request& request) {
  const std::int32_t begin = map.class_indptr[r], end = map.class_indptr[r + 1];
  const std::int64_t rows = ceil_div(request.qo_len, map.tile_q), columns = ceil_div(request.kv_len, map.tile_kv);
  FOVEA_CHECK(end - begin == map.num_heads * rows * columns,
              "{}: tiles.class_indptr gives request {} {} classes; it has {} head{} x {} x {} tiles of {} query tokens x {} positions "
              "(qo_len {}, kv_len {})",
              where, r, end - begin, map.num_heads, map.num_heads == 1 ? "" : "s", rows, columns, map.tile_q, map.tile_kv, request.qo_len,
              request.kv_len);
  for (std::int32_t i = begin; i < end; ++i) {
    FOVEA_CHECK(map.classes[i] <= static_cast<std::uint8_t>(TileClass::full),
                "{}: tiles.classes[{}] = {} (request {}); a class is 0 (empty), 1 (mixed) or 2 (full)", where, i, map.classes[i], r);
  }
}

}  // namespace

TileMap check_tiles(std::string_view where, const TileClasses& tiles, const RequestLengths& requests, std::int32_t num_qo_heads) {
  if (!tiles.given()) {
    FOVEA_CHECK(!tiles.class_indptr.defined(), "{}: tiles.class_indptr is given without tiles.classes", where);
    return {};
  }
  FOVEA_CHECK(is_tile(tiles.tile_q, tiles.tile_kv), "{}: tiles of {} query tokens x {} positions; both must be 1 to {}", where,
              tiles.tile_q, tiles.tile_kv, kUnbounded);
  const Argument name{where, "tiles", -1, ""};
  check_any_vector(name.of("classes"), tiles.classes, DType::u8, Device{});
  check_vector(name.of("class_indptr"), tiles.class_indptr, DType::i32, std::int64_t{requests.num_requests} + 1, Device{});
  const TileMap map{.classes = tiles.classes.as<std::uint8_t>(),
                    .class_indptr = tiles.class_indptr.as<std::int32_t>(),
                    .num_heads = tiles.per_head ? num_qo_heads : 1,
                    .tile_q = tiles.tile_q,
                    .tile_kv = tiles.tile_kv};
  check_bounds(where, map, requests.num_requests, tiles.classes.dim(0));
  for (std::int32_t r = 0; r < requests.num_requests; ++r) {
    check_request(where, map, r, requests.at(r));
  }
  return map;
}

void check_classify_options(const ClassifyOptions& options) {
  FOVEA_CHECK(is_tile(options.tile_q, options.tile_kv), "classify_tiles: tiles of {} query tokens x {} positions; both must be 1 to {}",
              options.tile_q, options.tile_kv, kUnbounded);
}

}  // namespace fovea
