#include "src/support/spelling.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace fovea {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string closest_name(std::string_view wrong, std::span<const std::string> known) {
  std::string closest;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (const std::string& name : known) {
    if (const std::size_t distance = edit_distance(wrong, name); distance < least) {
      least = distance;
      closest = name;
    }
  }
  return least <= 1 + wrong.size() / 3 ? closest : "";
}

}  // namespace fovea
