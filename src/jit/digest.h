// Digest: 128 bits that name what a compiled artefact was made from, and say whether a file is what was written.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fovea::jit {

struct Digest {
  std::uint64_t high = 0, low = 0;
  std::string hex() const;  // 32 characters
  friend bool operator==(const Digest&, const Digest&) = default;
};

/// Of a list of texts: ("ab", "c") and ("a", "bc") differ.
Digest digest_of(std::span<const std::string_view> texts);

}  // namespace fovea::jit
