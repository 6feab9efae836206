// Mixing of 64-bit numbers: identities of tokens and the bits of their values. The same on every machine.
#pragma once

#include <cstdint>

namespace fovea::serving {

/// The finaliser of splitmix64: one to one, and every input bit changes about half of the output bits.
constexpr std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

/// A number that depends on both, and on their order.
constexpr std::uint64_t mix(std::uint64_t a, std::uint64_t b) { return mix(mix(a + 0x9e3779b97f4a7c15ull) + b); }

}  // namespace fovea::serving
