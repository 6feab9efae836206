// Rotary embedding row by row, as kernels in float turn keys, is that of pairs one by one in double.
#include "portable/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace fovea {
namespace {

template <Pairing P>
void expect_rows_of_pairs(const RopeParams& params, int head_dim, int position) {
  RotaryEmbedding<P> rope;
  rope.p = params;
  std::vector<float> row(static_cast<std::size_t>(head_dim));
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = std::sin(static_cast<float>(i) * 1.7f) + 0.01f;
  }
  std::vector<double> expected(row.begin(), row.end());
  transform_elements(rope, expected.data(), head_dim,
                     [&](auto pair, Element e) { return rope.transform_key(pair, e, Position<>{.kv_pos = position}); });
  rope.transform_key_row(row.data(), head_dim, Position<>{.kv_pos = position});
  // An angle off by so many turns moves an element of a pair by 2 pi of the pair's length, at most 1.5.
  const double bound = 9.5 * std::ldexp(std::abs(position), -50) + 8 * std::ldexp(1.0, -22);
  for (std::size_t i = 0; i < row.size(); ++i) {
    ASSERT_NEAR(row[i], expected[i], bound) << "element " << i << " of " << head_dim << " at " << position;
  }
}

TEST(Rope, RowsAreTurnedAsTheirPairsAre) {
  const RopeParams llama{.theta = 500000, .factor = 8, .low_freq_factor = 1, .high_freq_factor = 4, .original_context = 8192};
  for (const RopeParams& base : {RopeParams{}, RopeParams{.factor = 4}, llama}) {
    for (const auto& [head_dim, rotary_dim] : {std::pair{128, 0}, {64, 0}, {2, 0}, {80, 34}, {256, 32}, {40, 38}, {16, 100}, {7, 6}}) {
      RopeParams params = base;
      params.rotary_dim = rotary_dim;
      for (const int position : {0, 1, -5, 1000, 131071, 1000003}) {
        expect_rows_of_pairs<Pairing::half>(params, head_dim, position);
        expect_rows_of_pairs<Pairing::adjacent>(params, head_dim, position);
      }
    }
  }
}

TEST(Rope, RowsReadTheTable) {
  std::vector<float> table(10 * 24);
  for (std::size_t i = 0; i < table.size(); ++i) {
    table[i] = std::cos(static_cast<float>(i));
  }
  for (const int columns : {24, 2, 10}) {
    const RopeParams params{.cos_sin = {.data = table.data(), .rows = 10, .cols = columns, .row_stride = 24}};
    for (const int position : {0, 3, 9, 50}) {
      expect_rows_of_pairs<Pairing::half>(params, 24, position);
      expect_rows_of_pairs<Pairing::adjacent>(params, 24, position);
    }
  }
}

}  // namespace
}  // namespace fovea
