#include "cli/mask_picture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "bench/batch_arrays.h"

namespace fovea::cli {
namespace {

constexpr std::int32_t kMostCells = 96;
constexpr std::int32_t kTile = 8;  // cells; smaller than a kernel's, so that a small picture has some

/// A value as one would write it on the command line; long tables by their length.
std::string text_of_value(const bench::NamedNumber& number) {
  const auto list = [&](const auto& values) {
    return values.size() > 4 ? fmt::format("{}[{}]", number.name, values.size())
                             : fmt::format("{}={}", number.name, fmt::join(values, ","));
  };
  return std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_arithmetic_v<T>) {
          return fmt::format("{}={}", number.name, value);
        } else if constexpr (std::is_same_v<T, bench::FloatTable>) {
          return list(value.numbers);
        } else {
          return list(value);
        }
      },
      number.value);
}

/// Lengths of documents that fill so many tokens.
std::vector<std::int32_t> example_documents(std::int32_t tokens) {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < tokens; ++i) {
    ids.push_back(i < tokens * 2 / 7 ? 0 : (i < tokens * 3 / 4 ? 1 : 2));
  }
  return ids;
}

/// Drafts of a tree behind a prompt: each sees the prompt, its ancestors and itself. Draft i hangs on draft (i - 1) / 2.
std::vector<std::uint8_t> example_tree(std::int32_t qo_len, std::int32_t kv_len) {
  std::vector<std::uint8_t> bytes((static_cast<std::size_t>(qo_len) * static_cast<std::size_t>(kv_len) + 7) / 8);
  const auto set = [&](std::int32_t row, std::int32_t column) {
    const std::int32_t bit = row * kv_len + column;
    bytes[static_cast<std::size_t>(bit / 8)] |= static_cast<std::uint8_t>(1 << (bit % 8));
  };
  const std::int32_t prompt = kv_len - qo_len;
  for (std::int32_t row = 0; row < qo_len; ++row) {
    for (std::int32_t column = 0; column < prompt; ++column) {
      set(row, column);
    }
    for (std::int32_t draft = row;; draft = (draft - 1) / 2) {
      set(row, prompt + draft);
      if (draft == 0) {
        break;
      }
    }
  }
  return bytes;
}

std::vector<bench::NamedNumber> examples_of(const std::string& part, const bench::RequestLengths& request) {
  const std::int32_t tokens = request.kv_len;
  if (part == "sliding_window") {
    return {{"window_left", std::int64_t{tokens / 4}}};
  }
  if (part == "chunked_local") {
    return {{"chunk_size", std::int64_t{std::max(1, tokens / 4)}}};
  }
  if (part == "prefix_lm") {
    return {{"prefix_len", std::vector<std::int32_t>{tokens * 2 / 5}}};
  }
  if (part == "document") {
    return {{"document_ids", example_documents(tokens)}, {"document_indptr", std::vector<std::int32_t>{0, tokens}}};
  }
  if (part == "custom_mask") {
    std::vector<std::uint8_t> bits = example_tree(request.qo_len, tokens);
    const auto bytes = static_cast<std::int32_t>(bits.size());
    return {{"mask_bits", std::move(bits)}, {"mask_indptr", std::vector<std::int32_t>{0, bytes}}};
  }
  return {};
}

struct Grid {
  std::int32_t rows, columns;
  std::vector<std::uint8_t> classes;
};

Grid classes_of(const Attention& attention, const bench::BatchArrays& arrays, const MaskValues& mask, const bench::RequestLengths& request,
                std::int32_t tokens) {
  ClassifiedTiles found = attention.classify_tiles(arrays.batch(), mask, {.tile_q = tokens, .tile_kv = tokens});
  const std::int32_t rows = (request.qo_len + tokens - 1) / tokens, columns = (request.kv_len + tokens - 1) / tokens;
  found.classes.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));  // of the first head
  return {rows, columns, std::move(found.classes)};
}

}  // namespace

std::int64_t MaskPicture::count(int tile_class) const {
  const std::vector<std::uint8_t>& counted = tile_rows > 0 ? tiles : cells;
  return std::count(counted.begin(), counted.end(), static_cast<std::uint8_t>(tile_class));
}

void add_example_values(bench::Workload& workload) {
  for (const std::string& part : workload.spec.variant.parts()) {
    for (bench::NamedNumber& example : examples_of(part, workload.requests.at(0))) {
      const bool given = std::any_of(workload.mask.begin(), workload.mask.end(), [&](const bench::NamedNumber& number) {
        return number.name == example.name || number.name == part + "." + example.name;
      });
      if (!given) {
        workload.mask.push_back(std::move(example));
      }
    }
  }
}

MaskPicture picture_of_mask(const Engine& engine, const bench::Workload& workload) {
  const bench::RequestLengths request = workload.requests.at(0);
  const Attention attention = engine.prepare(workload.spec, bench::limits_of(workload), {.max_workspace_bytes = 0});
  const bench::BatchArrays arrays(workload, false);
  const bench::WorkloadValues values(workload);
  MaskPicture picture{.title = workload.spec.variant.name, .num_query_tokens = request.qo_len, .num_keys = request.kv_len};
  for (const bench::NamedNumber& number : workload.mask) {
    picture.title += ", " + text_of_value(number);
  }
  picture.first_position = request.kv_len - request.qo_len;
  picture.step = (std::max(request.qo_len, request.kv_len) + kMostCells - 1) / kMostCells;
  Grid cells = classes_of(attention, arrays, values.mask(), request, picture.step);
  picture.rows = cells.rows;
  picture.columns = cells.columns;
  picture.cells = std::move(cells.classes);
  if (picture.step == 1) {
    Grid tiles = classes_of(attention, arrays, values.mask(), request, kTile);
    picture.tile = kTile;
    picture.tile_rows = tiles.rows;
    picture.tile_columns = tiles.columns;
    picture.tiles = std::move(tiles.classes);
  }
  return picture;
}

}  // namespace fovea::cli
