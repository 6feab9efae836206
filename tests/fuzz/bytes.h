// The fuzzer's input, read as choices. An exhausted input reads as zeros, and zeros make a sound problem, so that short inputs are useful.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace fovea::fuzz {

class Bytes {
 public:
  explicit Bytes(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  std::uint8_t byte() { return next_ < bytes_.size() ? bytes_[next_++] : 0; }
  int below(int bound) { return byte() % bound; }
  int between(int low, int high) { return low + below(high - low + 1); }  // both inclusive
  bool rarely() { return byte() == 0xff; }

  std::int32_t integer() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      value = value << 8 | byte();
    }
    return static_cast<std::int32_t>(value);
  }
  /// `value`, or rarely anything at all.
  std::int32_t or_anything(std::int32_t value) { return rarely() ? integer() : value; }

  template <class T>
  T pick(std::initializer_list<T> choices) {
    return choices.begin()[below(static_cast<int>(choices.size()))];
  }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t next_ = 0;
};

}  // namespace fovea::fuzz
