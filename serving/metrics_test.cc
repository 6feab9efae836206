// Counted work against brute force, latencies by hand, and the properties that inputs made from hashes must have.
#include "serving/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>
#include <vector>

#include "serving/digest.h"
#include "serving/values.h"

namespace fovea::serving {
namespace {

TEST(Metrics, VisiblePairsAndTokensAgainstCounting) {
  for (const std::int64_t window : {0, 1, 2, 5, 9}) {
    for (std::int64_t first = 0; first < 8; ++first) {
      for (std::int64_t count = 1; count < 8; ++count) {
        double pairs = 0;
        std::set<std::int64_t> tokens;
        for (std::int64_t q = first; q < first + count; ++q) {
          for (std::int64_t kv = 0; kv <= q; ++kv) {
            if (window == 0 || kv > q - window) {
              ++pairs;
              tokens.insert(kv);
            }
          }
        }
        EXPECT_EQ(visible_pairs(first, count, window), pairs) << first << " " << count << " " << window;
        EXPECT_EQ(visible_tokens(first, count, window), static_cast<std::int64_t>(tokens.size())) << first << " " << count << " " << window;
      }
    }
  }
}

TEST(Metrics, Percentiles) {
  const std::vector<double> sorted{1, 2, 3, 4, 5};
  EXPECT_EQ(percentile(sorted, 0), 1);
  EXPECT_EQ(percentile(sorted, 0.5), 3);
  EXPECT_EQ(percentile(sorted, 1), 5);
  EXPECT_DOUBLE_EQ(percentile(sorted, 0.9), 4.6);
  EXPECT_EQ(percentile({}, 0.5), 0);
  EXPECT_EQ(percentiles({5, 1, 3}).p50, 3);
}

TEST(Metrics, LatenciesAreSumsOfStepTimes) {
  Trace trace{.name = "", .format = "mooncake", .requests = {}, .skipped_lines = 0, .first_skipped = {}};
  trace.requests = {{.arrival_us = 100, .input_tokens = 8, .output_tokens = 3, .prefix_ids = {}},
                    {.arrival_us = 150, .input_tokens = 8, .output_tokens = 1, .prefix_ids = {}}};
  const std::vector<ServedRequest> requests = serve(trace, 1);
  Latencies latencies(requests);
  const auto step = [](std::int64_t begin_us, std::vector<ScheduledWork> work) {
    return Step{.begin_us = begin_us, .work = std::move(work)};
  };
  latencies.add(step(0, {{.request = 0, .count = 8, .emits_token = true, .first_token = true}}), 7);
  latencies.add(step(60, {{.request = 0, .emits_token = true}, {.request = 1, .count = 4}}), 5);  // request 1 came at 50
  latencies.add(step(90, {{.request = 0, .emits_token = true}, {.request = 1, .count = 4, .emits_token = true, .first_token = true}}), 2);
  EXPECT_EQ(latencies.first_token_us(), (std::vector<double>{7, 7}));
  EXPECT_EQ(latencies.inter_token_us(), (std::vector<double>{5, 2}));
}

TEST(Values, AreThoseOfTheTokenLayerHeadAndTensor) {
  std::vector<std::uint16_t> a(128), b(128);
  const auto make = [](std::uint64_t seed, Tensor tensor, std::int32_t layer, std::uint64_t token, std::int32_t head) {
    std::vector<std::uint16_t> values(128);
    Values(seed, tensor, layer).fill(token, head, values);
    return values;
  };
  const std::vector<std::uint16_t> base = make(1, Tensor::k, 0, 77, 3);
  EXPECT_EQ(base, make(1, Tensor::k, 0, 77, 3));
  EXPECT_NE(base, make(2, Tensor::k, 0, 77, 3));
  EXPECT_NE(base, make(1, Tensor::v, 0, 77, 3));
  EXPECT_NE(base, make(1, Tensor::k, 1, 77, 3));
  EXPECT_NE(base, make(1, Tensor::k, 0, 78, 3));
  EXPECT_NE(base, make(1, Tensor::k, 0, 77, 4));
  std::vector<std::uint16_t> shorter(68);
  Values(1, Tensor::k, 0).fill(77, 3, shorter);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), base.begin())) << "a length that is no multiple of 64";
}

TEST(Values, AreUniformInRangeAndUncorrelated) {
  constexpr int kTokens = 4000, kDim = 64;
  std::vector<float> all;
  for (int token = 0; token < kTokens; ++token) {
    std::vector<std::uint16_t> values(kDim);
    Values(9, Tensor::v, 2).fill(static_cast<std::uint64_t>(token), 0, values);
    for (const std::uint16_t value : values) {
      all.push_back(std::bit_cast<float>(std::uint32_t{value} << 16));
    }
  }
  double sum = 0, squares = 0, neighbours = 0, tokens = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_GE(all[i], -2);
    EXPECT_LT(all[i], 2);
    sum += all[i];
    squares += all[i] * all[i];
    neighbours += i > 0 ? all[i] * all[i - 1] : 0;
    tokens += i >= kDim ? all[i] * all[i - kDim] : 0;
  }
  const double n = static_cast<double>(all.size());
  const double deviations = 5 / std::sqrt(n);  // five standard deviations of a mean with unit variance
  EXPECT_NEAR(sum / n, -1.0 / 128, 1.2 * deviations);
  EXPECT_NEAR(squares / n, 4.0 / 3, 2 * deviations);
  EXPECT_NEAR(neighbours / n, 0, 1.4 * deviations);
  EXPECT_NEAR(tokens / n, 0, 1.4 * deviations);
}

TEST(Digest, CoversEveryByteAndThePlace) {
  std::vector<std::byte> row(257, std::byte{5});
  std::set<std::uint64_t> digests{row_digest(row, 1), row_digest(row, 2)};
  for (std::size_t i = 0; i < row.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      row[i] ^= std::byte{1} << bit;
      digests.insert(row_digest(row, 1));
      row[i] ^= std::byte{1} << bit;
    }
  }
  EXPECT_EQ(digests.size(), 2 + 257 * 8u);
}

}  // namespace
}  // namespace fovea::serving
