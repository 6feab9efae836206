#include "serving/digest.h"

#include <cstring>

namespace fovea::serving {

std::uint64_t row_digest(std::span<const std::byte> row, std::uint64_t place) {
  constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15ull;
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < row.size(); at += 8, place += kStep) {
    std::uint64_t word = 0;
    std::memcpy(&word, row.data() + at, row.size() - at < 8 ? row.size() - at : 8);
    sum += mix(word ^ place);
  }
  return sum;
}

}  // namespace fovea::serving
