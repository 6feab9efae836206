#include "serving/values.h"

#include <bit>

#include "serving/mix.h"

namespace fovea::serving {
namespace {

/// A 32-bit mix with two multiplications (Wellons, "lowbias32"): 32-bit lanes are what every instruction set has.
constexpr std::uint32_t mix32(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ (x >> 16);
}

constexpr std::size_t kWords = 16;  // mixed at a time: 64 values

}  // namespace

Values::Values(std::uint64_t seed, Tensor tensor, std::int32_t layer)
    : key_(mix(mix(seed, static_cast<std::uint64_t>(tensor)), static_cast<std::uint64_t>(layer))) {}

void Values::fill(std::uint64_t token_hash, std::int32_t head, std::span<std::uint16_t> out) const {
  const std::uint64_t start = mix(token_hash ^ key_, static_cast<std::uint64_t>(head));
  const auto low = static_cast<std::uint32_t>(start), high = static_cast<std::uint32_t>(start >> 32);
  // Perf: plain loops over fixed counts that compilers turn into vector code; four values a word, a byte each.
  for (std::size_t begin = 0; begin < out.size(); begin += 4 * kWords) {
    std::uint32_t words[kWords];
    for (std::size_t i = 0; i < kWords; ++i) {
      words[i] = mix32(low + static_cast<std::uint32_t>(begin / 4 + i) * 0x9e3779b9u) ^ high;
    }
    std::uint16_t piece[4 * kWords];
    for (std::size_t i = 0; i < kWords; ++i) {
      for (std::size_t byte = 0; byte < 4; ++byte) {
        // The words in another order than their bytes: byte b of word i is value b * kWords + i, which needs no shuffles.
        const auto number = static_cast<std::int8_t>(words[i] >> (8 * byte));
        piece[byte * kWords + i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(number) * 0x1p-6f) >> 16);
      }
    }
    const std::size_t count = out.size() - begin < 4 * kWords ? out.size() - begin : 4 * kWords;
    for (std::size_t i = 0; i < count; ++i) {
      out[begin + i] = piece[i];
    }
  }
}

}  // namespace fovea::serving
