// Every 8- and 16-bit pattern, every rounding tie and its neighbours, against an oracle that searches the table of values.
#include "portable/convert.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace fovea {
namespace {

struct Layout {
  DType dtype;
  int exponent_bits, mantissa_bits;
  bool has_infinity, saturates;
};

constexpr Layout kLayouts[] = {
    {DType::f16, 5, 10, true, false},
    {DType::bf16, 8, 7, true, false},
    {DType::e4m3, 4, 3, false, true},
    {DType::e5m2, 5, 2, true, true},
};

int num_patterns(const Layout& layout) { return 1 << (1 + layout.exponent_bits + layout.mantissa_bits); }

/// The value of a pattern from the definition of its format.
double value_of(const Layout& layout, int pattern) {
  const int half = num_patterns(layout) / 2;
  const int magnitude = pattern % half;
  const int exponent = magnitude >> layout.mantissa_bits;
  const int mantissa = magnitude % (1 << layout.mantissa_bits);
  const int bias = (1 << (layout.exponent_bits - 1)) - 1;
  double value;
  if (layout.has_infinity && exponent == (1 << layout.exponent_bits) - 1) {
    value = mantissa == 0 ? INFINITY : NAN;
  } else if (!layout.has_infinity && magnitude == half - 1) {
    value = NAN;
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - bias - layout.mantissa_bits);
  } else {
    value = std::ldexp((1 << layout.mantissa_bits) + mantissa, exponent - bias - layout.mantissa_bits);
  }
  return pattern >= half ? -value : value;
}

/// Room for four elements of any dtype.
struct Elements {
  alignas(8) unsigned char bytes[32] = {};

  void set(const Layout& layout, int index, int pattern) {
    const int width = row_of(layout.dtype).bits / 8;
    std::memcpy(bytes + index * width, &pattern, static_cast<std::size_t>(width));  // little endian
  }
  int get(const Layout& layout, int index) const {
    const int width = row_of(layout.dtype).bits / 8;
    int pattern = 0;
    std::memcpy(&pattern, bytes + index * width, static_cast<std::size_t>(width));
    return pattern;
  }
};

int encode(const Layout& layout, float x) {
  Elements elements;
  from_float(layout.dtype, elements.bytes, 1, x);
  EXPECT_EQ(elements.get(layout, 0), 0);  // neighbours are left alone
  EXPECT_EQ(elements.get(layout, 2), 0);
  return elements.get(layout, 1);
}

int encode_double(const Layout& layout, double x) {
  Elements elements;
  from_double(layout.dtype, elements.bytes, 1, x);
  return elements.get(layout, 1);
}

double decode(const Layout& layout, int pattern) {
  Elements elements;
  elements.set(layout, 3, pattern);
  return to_double(layout.dtype, elements.bytes, 3);
}

/// The pattern nearest to x >= 0 among the finite ones, ties to the even pattern; beyond the last, as the layout says.
int nearest_pattern(const Layout& layout, const std::vector<double>& finite, double x) {
  const int last = static_cast<int>(finite.size()) - 1;
  const int above = static_cast<int>(std::lower_bound(finite.begin(), finite.end(), x) - finite.begin());
  if (above == 0) {
    return 0;
  }
  if (above > last) {
    // A step beyond the last value, rounding would reach the value one more bit of exponent could hold.
    const double step = finite[static_cast<std::size_t>(last)] - finite[static_cast<std::size_t>(last - 1)];
    const double limit = finite[static_cast<std::size_t>(last)] + step / 2;
    const bool even = last % 2 == 0;
    const bool fits = x < limit || (x == limit && even);
    return fits || layout.saturates ? last : last + 1;
  }
  const double low = finite[static_cast<std::size_t>(above - 1)], high = finite[static_cast<std::size_t>(above)];
  if (x - low != high - x) {
    return x - low < high - x ? above - 1 : above;
  }
  return above % 2 == 0 ? above : above - 1;
}

std::vector<double> finite_values(const Layout& layout) {
  std::vector<double> values;
  for (int pattern = 0; std::isfinite(value_of(layout, pattern)); ++pattern) {
    values.push_back(value_of(layout, pattern));
  }
  return values;
}

class Convert : public testing::TestWithParam<Layout> {};

TEST_P(Convert, EveryPatternDecodesToItsValueAndBack) {
  const Layout layout = GetParam();
  for (int pattern = 0; pattern < num_patterns(layout); ++pattern) {
    const double expected = value_of(layout, pattern);
    const double actual = decode(layout, pattern);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(actual)) << pattern;
      EXPECT_TRUE(std::isnan(decode(layout, encode(layout, static_cast<float>(actual))))) << pattern;
      continue;
    }
    ASSERT_EQ(expected, actual) << pattern;
    ASSERT_EQ(std::signbit(expected), std::signbit(actual)) << pattern;
    ASSERT_EQ(encode(layout, static_cast<float>(actual)), pattern);
    ASSERT_EQ(encode_double(layout, actual), pattern);
  }
}

TEST_P(Convert, TiesAndTheirNeighboursRoundToNearestEven) {
  const Layout layout = GetParam();
  const std::vector<double> finite = finite_values(layout);
  const int half = num_patterns(layout) / 2;
  for (std::size_t i = 0; i + 1 < finite.size(); ++i) {
    const double tie = (finite[i] + finite[i + 1]) / 2;
    const float f = static_cast<float>(tie);
    ASSERT_EQ(static_cast<double>(f), tie);
    for (const float x : {f, std::nextafter(f, 0.0f), std::nextafter(f, INFINITY)}) {
      ASSERT_EQ(encode(layout, x), nearest_pattern(layout, finite, x)) << x;
      ASSERT_EQ(encode(layout, -x), half + nearest_pattern(layout, finite, x)) << x;
    }
    for (const double x : {tie, std::nextafter(tie, 0.0), std::nextafter(tie, INFINITY)}) {
      ASSERT_EQ(encode_double(layout, x), nearest_pattern(layout, finite, x)) << x;
      ASSERT_EQ(encode_double(layout, -x), half + nearest_pattern(layout, finite, x)) << x;
    }
  }
}

TEST_P(Convert, RandomFloatsRoundToNearestEven) {
  const Layout layout = GetParam();
  const std::vector<double> finite = finite_values(layout);
  std::mt19937 random(7);
  for (int i = 0; i < 200000; ++i) {
    const float x = math::bits_to_float(static_cast<std::uint32_t>(random()) & 0x7fffffffu);
    if (std::isfinite(x)) {
      ASSERT_EQ(encode(layout, x), nearest_pattern(layout, finite, x)) << x;
    }
  }
}

TEST_P(Convert, OverflowInfinityAndNan) {
  const Layout layout = GetParam();
  const std::vector<double> finite = finite_values(layout);
  const int last = static_cast<int>(finite.size()) - 1;
  const int half = num_patterns(layout) / 2;
  const double step = finite[static_cast<std::size_t>(last)] - finite[static_cast<std::size_t>(last - 1)];
  for (const double x : {finite.back() + step * 0.49, finite.back() + step / 2, finite.back() + step, 1e30, 3.3e38, 3.4028234e38}) {
    EXPECT_EQ(encode(layout, static_cast<float>(x)), nearest_pattern(layout, finite, static_cast<float>(x))) << x;
    EXPECT_EQ(encode(layout, static_cast<float>(-x)), half + nearest_pattern(layout, finite, static_cast<float>(x))) << x;
  }
  EXPECT_EQ(encode_double(layout, 1e300), layout.saturates ? last : last + 1);
  EXPECT_EQ(encode(layout, INFINITY), layout.has_infinity ? last + 1 : last);
  EXPECT_EQ(encode(layout, -INFINITY), half + (layout.has_infinity ? last + 1 : last));
  EXPECT_TRUE(std::isnan(value_of(layout, encode(layout, NAN))));
  EXPECT_TRUE(std::isnan(value_of(layout, encode(layout, -NAN))));
  EXPECT_TRUE(std::isnan(value_of(layout, encode(layout, math::bits_to_float(0x7f800001u)))));
  EXPECT_TRUE(std::isnan(value_of(layout, encode_double(layout, NAN))));
}

INSTANTIATE_TEST_SUITE_P(All, Convert, testing::ValuesIn(kLayouts), [](const auto& info) { return name_of(info.param.dtype); });

TEST(ConvertConstants, KnownPatterns) {
  const Layout e4m3 = kLayouts[2], e5m2 = kLayouts[3], f16 = kLayouts[0], bf16 = kLayouts[1];
  EXPECT_EQ(encode(e4m3, 448.0f), 0x7e);
  EXPECT_EQ(encode(e4m3, 1e9f), 0x7e);
  EXPECT_EQ(encode(e4m3, NAN) & 0x7f, 0x7f);
  EXPECT_EQ(encode(e4m3, 1.0f), 0x38);
  EXPECT_EQ(encode(e5m2, 57344.0f), 0x7b);
  EXPECT_EQ(encode(e5m2, 1.0f), 0x3c);
  EXPECT_EQ(encode(f16, 65504.0f), 0x7bff);
  EXPECT_EQ(encode(f16, 65520.0f), 0x7c00);
  EXPECT_EQ(encode(bf16, 1.0f), 0x3f80);
}

TEST(ConvertF32, IsTheIdentityAndDoublesRoundOnce) {
  float memory[2] = {};
  from_float(DType::f32, memory, 1, 0.1f);
  EXPECT_EQ(to_float(DType::f32, memory, 1), 0.1f);
  from_double(DType::f32, memory, 0, 0.1);
  EXPECT_EQ(memory[0], 0.1f);
  from_double(DType::f32, memory, 0, 1e300);
  EXPECT_EQ(memory[0], INFINITY);
}

TEST(RoundToOdd, KeepsFloatsAndMarksTheRest) {
  EXPECT_EQ(round_to_odd(0.5), 0.5f);
  EXPECT_EQ(round_to_odd(-0.0), 0.0f);
  EXPECT_EQ(round_to_odd(1e300), std::numeric_limits<float>::max());
  EXPECT_EQ(round_to_odd(-1e300), -std::numeric_limits<float>::max());
  EXPECT_EQ(round_to_odd(1e-300), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(round_to_odd(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(round_to_odd(NAN)));
  EXPECT_EQ(math::float_to_bits(round_to_odd(1.0 + 1e-12)), 0x3f800001u);
  EXPECT_EQ(math::float_to_bits(round_to_odd(1.0 - 1e-12)), 0x3f7fffffu);
}

}  // namespace
}  // namespace fovea
