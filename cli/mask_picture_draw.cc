// A MaskPicture as SVG and as text. Integers alone: the same bytes on every machine.
#include <fmt/format.h>

#include <algorithm>

#include "cli/mask_picture.h"

namespace fovea::cli {
namespace {

constexpr const char* kSeen = "#5b8db8";  // in a mixed tile, or a cell seen in part
constexpr const char* kFull = "#24557d";  // in a full tile
constexpr const char* kMixedGround = "#eef2f6";
constexpr int kLeft = 44, kTop = 40, kBelow = 34;

std::uint8_t class_at(const std::vector<std::uint8_t>& classes, std::int32_t columns, std::int32_t row, std::int32_t column) {
  return classes[static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) + static_cast<std::size_t>(column)];
}

std::uint8_t tile_of(const MaskPicture& p, std::int32_t row, std::int32_t column) {
  return p.tile_rows > 0 ? class_at(p.tiles, p.tile_columns, row / p.tile, column / p.tile) : class_at(p.cells, p.columns, row, column);
}

std::string rectangle(int x, int y, int width, int height, std::string_view paint) {
  return fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" {}/>\n", x, y, width, height, paint);
}

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    safe += c == '<' ? "&lt;" : (c == '>' ? "&gt;" : (c == '&' ? "&amp;" : std::string(1, c)));
  }
  return safe;
}

std::string label(int x, int y, std::string_view anchor, const std::string& text) {
  return fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor, escaped(text));
}

/// 0: unseen, 1: seen in a mixed tile or in part, 2: of a full tile.
int shade_of(const MaskPicture& p, std::int32_t row, std::int32_t column) {
  const std::uint8_t cell = class_at(p.cells, p.columns, row, column);
  return cell == 0 ? 0 : (cell == 2 && tile_of(p, row, column) == 2 ? 2 : 1);
}

/// Runs of cells of one shade, row by row.
std::string cells_of(const MaskPicture& p, int pixels) {
  std::string svg;
  for (std::int32_t row = 0; row < p.rows; ++row) {
    for (std::int32_t begin = 0; begin < p.columns;) {
      std::int32_t end = begin + 1;
      const int shade = shade_of(p, row, begin);
      while (end < p.columns && shade_of(p, row, end) == shade) {
        ++end;
      }
      if (shade > 0) {
        svg += rectangle(kLeft + begin * pixels, kTop + row * pixels, (end - begin) * pixels, pixels,
                         fmt::format("fill=\"{}\"", shade == 2 ? kFull : kSeen));
      }
      begin = end;
    }
  }
  return svg;
}

/// Grounds of mixed tiles, below the cells; and the lines between tiles, above them.
std::string tiles_of(const MaskPicture& p, int pixels, bool grounds) {
  std::string svg;
  for (std::int32_t i = 0; i < p.tile_rows; ++i) {
    for (std::int32_t j = 0; j < p.tile_columns; ++j) {
      const int x = kLeft + j * p.tile * pixels, y = kTop + i * p.tile * pixels;
      const int width = std::min(p.tile, p.columns - j * p.tile) * pixels, height = std::min(p.tile, p.rows - i * p.tile) * pixels;
      if (!grounds) {
        svg += rectangle(x, y, width, height, "fill=\"none\" stroke=\"#b8c4ce\"");
      } else if (class_at(p.tiles, p.tile_columns, i, j) == 1) {
        svg += rectangle(x, y, width, height, fmt::format("fill=\"{}\"", kMixedGround));
      }
    }
  }
  return svg;
}

std::string counts_text(const MaskPicture& p) {
  const std::int32_t side = p.tile_rows > 0 ? p.tile : p.step;
  return fmt::format("tiles of {0} x {0}: {1} empty, {2} mixed, {3} full", side, p.count(0), p.count(1), p.count(2));
}

}  // namespace

std::string svg_of(const MaskPicture& p) {
  const int pixels = std::max(p.rows, p.columns) <= 48 ? 7 : 4;
  const int right = kLeft + p.columns * pixels, bottom = kTop + p.rows * pixels;
  const int width = std::max({right + 16, 340, kLeft + 6 * static_cast<int>(p.title.size())}), height = bottom + kBelow;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" font-family=\"sans-serif\" "
      "font-size=\"11\" fill=\"#333\">\n",
      width, height);
  svg += rectangle(0, 0, width, height, "fill=\"#fff\"");
  svg += label(kLeft, 15, "start", p.title);
  svg += tiles_of(p, pixels, true) + cells_of(p, pixels) + tiles_of(p, pixels, false);
  svg += rectangle(kLeft, kTop, p.columns * pixels, p.rows * pixels, "fill=\"none\" stroke=\"#8796a3\"");
  const std::int32_t tick = p.tile_rows > 0 ? 2 * p.tile : std::max(1, p.columns / 4);
  for (std::int32_t column = 0; column < p.columns; column += tick) {
    svg += label(kLeft + column * pixels, kTop - 4, "start", fmt::format("{}{}", column * p.step, column == 0 ? "  keys" : ""));
  }
  for (std::int32_t row = 0; row < p.rows; row += tick) {
    svg += label(kLeft - 4, kTop + row * pixels + 9, "end", fmt::format("{}", p.first_position + row * p.step));
  }
  svg += fmt::format("<text transform=\"translate(12 {}) rotate(-90)\" text-anchor=\"end\">queries</text>\n", kTop + 1);
  svg += label(kLeft, bottom + 18, "start", counts_text(p));
  return svg + "</svg>\n";
}

std::string text_of(const MaskPicture& p) {
  std::string text = p.title + "\n";
  for (std::int32_t row = 0; row < p.rows; ++row) {
    text += fmt::format("{:>8} ", p.first_position + row * p.step);
    for (std::int32_t column = 0; column < p.columns; ++column) {
      static constexpr const char* kMarks[] = {"·", "▒", "█"};
      text += tile_of(p, row, column) == 0 ? " " : kMarks[shade_of(p, row, column)];
    }
    text += "\n";
  }
  return text + fmt::format("{:>8} {}; queries down, keys across{}; █ full tile, ▒ seen, · hidden\n", "", counts_text(p),
                            p.step == 1 ? "" : fmt::format(", {} tokens a mark", p.step));
}

}  // namespace fovea::cli
