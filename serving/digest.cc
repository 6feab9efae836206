#include "serving/digest.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace fovea::serving {

std::uint64_t row_digest(std::span<const std::byte> row, std::uint64_t place) {
  return mix(XXH3_64bits_withSeed(row.data(), row.size(), place));
}

}  // namespace fovea::serving
