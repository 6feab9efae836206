// Values: queries, keys and values made from a token's hash, so that equal prefixes have equal keys and values wherever they are stored.
// Multiples of 1/64 in [-2, 2): every bf16 and f16 holds them exactly.
#pragma once

#include <cstdint>
#include <span>

namespace fovea::serving {

enum class Tensor : std::uint8_t { q, k, v };

/// Of one tensor of one layer.
class Values {
 public:
  static constexpr double kLargest = 2;  // no value is larger in magnitude

  Values(std::uint64_t seed, Tensor tensor, std::int32_t layer);

  /// One head of one token as bf16. out.size() is a multiple of 4.
  void fill(std::uint64_t token_hash, std::int32_t head, std::span<std::uint16_t> out) const;

  /// Names seed, tensor and layer: all that fill() takes from here, for those who make the same values elsewhere.
  std::uint64_t key() const { return key_; }

 private:
  std::uint64_t key_;
};

}  // namespace fovea::serving
