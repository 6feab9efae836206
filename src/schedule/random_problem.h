// Test support: random problems, choices of configurations and batches over every format, small enough to check by brute force.
#pragma once

#include <cstdint>

#include "src/schedule/test_plan.h"

namespace fovea::test {

/// splitmix64: the same numbers on every platform.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t x = (state_ += 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  /// low .. high, both included.
  std::int32_t between(std::int32_t low, std::int32_t high) {
    return low + static_cast<std::int32_t>(next() % static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::int32_t n) { return between(1, n) == 1; }
  template <class T>
  T pick(std::initializer_list<T> values) {
    return values.begin()[between(0, static_cast<std::int32_t>(values.size()) - 1)];
  }

 private:
  std::uint64_t state_;
};

struct RandomCase {
  Problem problem;
  Choice choice;
  TestBatch batch;
  KvRange range;
};

RandomCase random_case(Random& random);

/// Limits that hold the batch: exactly (`slack` 0) or with room.
Limits limits_of(const Problem& problem, const TestBatch& batch, std::int32_t slack);

}  // namespace fovea::test
