#include "bench/timing.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace fovea::bench {
namespace {

TEST(Timing, QuantilesInterpolate) {
  const std::vector<double> samples = {50, 10, 40, 20, 30};
  const Quantiles q = quantiles(samples);
  EXPECT_DOUBLE_EQ(q.median, 30);
  EXPECT_DOUBLE_EQ(q.p10, 14);
  EXPECT_DOUBLE_EQ(q.p90, 46);
  EXPECT_DOUBLE_EQ(median(std::vector<double>{1, 2}), 1.5);
  EXPECT_DOUBLE_EQ(median(std::vector<double>{7}), 7);
}

TEST(Timing, ContestantsTakeTurnsInRotatingOrder) {
  std::string order;
  const Contestant contestants[] = {{"a", [&] { order += 'a'; }}, {"b", [&] { order += 'b'; }}, {"c", [&] { order += 'c'; }}};
  int last = -1;
  const auto times = take_turns(contestants, 3, [&](int done, int total) {
    EXPECT_EQ(done, ++last);
    EXPECT_EQ(total, 12);
  });
  EXPECT_EQ(order,
            "abc"  // warm-up
            "abcbcacab");
  ASSERT_EQ(times.size(), 3u);
  for (const auto& each : times) {
    EXPECT_EQ(each.size(), 3u);
  }
}

}  // namespace
}  // namespace fovea::bench
