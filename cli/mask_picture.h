// The mask of a variant as a picture: queries down, keys across, what is seen filled, tiles that are empty, mixed and full told apart.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/workload.h"
#include "fovea/engine.h"

namespace fovea::cli {

/// One request's mask, one head's, in cells of `step` tokens; and in tiles of `tile` cells.
struct MaskPicture {
  std::string title;  // "sliding_window, window_left=12"
  std::int32_t step = 1, tile = 8;
  std::int32_t rows = 0, columns = 0;            // cells
  std::vector<std::uint8_t> cells;               // [rows, columns] as TileClasses: 0 unseen, 1 in part, 2 seen
  std::int32_t tile_rows = 0, tile_columns = 0;  // 0: cells are tiles themselves
  std::vector<std::uint8_t> tiles;               // [tile_rows, tile_columns]
  std::int32_t first_position = 0, num_query_tokens = 0, num_keys = 0;

  std::int64_t count(int tile_class) const;
};

/// Of the workload's first request and first head. Throws what prepare() and plan() throw.
MaskPicture picture_of_mask(const Engine& engine, const bench::Workload& workload);

/// Values for the masks of built-in parts that are given none, so that a name is enough for a picture.
void add_example_values(bench::Workload& workload);

std::string svg_of(const MaskPicture& picture);
std::string text_of(const MaskPicture& picture);

}  // namespace fovea::cli
