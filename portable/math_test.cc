// Every bound that math.h states, against double, over floats sampled densely by their bits.
#include "portable/math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fovea::math {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Distance of `actual` from the exact value in units of the last place of the float nearest to it.
double ulps(double exact, float actual) {
  const float nearest = static_cast<float>(exact);
  if (std::isinf(nearest) || std::isinf(actual)) {
    return nearest == actual ? 0.0 : kInfinity;
  }
  int exponent;
  std::frexp(std::abs(exact), &exponent);
  const double ulp = std::ldexp(1.0, std::max(exponent - 24, -149));
  return std::abs(exact - static_cast<double>(actual)) / ulp;
}

/// Calls f(x) for every `step`-th float in [lo, hi], 0 <= lo, and its negative if asked.
template <class F>
void for_floats(float lo, float hi, std::uint32_t step, bool both_signs, F&& f) {
  for (std::uint64_t bits = float_to_bits(lo); bits <= float_to_bits(hi); bits += step) {
    const float x = bits_to_float(static_cast<std::uint32_t>(bits));
    f(x);
    if (both_signs) {
      f(-x);
    }
  }
  f(hi);
}

struct Worst {
  double error = 0.0;
  float at = 0.0f;
  void see(double e, float x) {
    if (!(e <= error)) {
      error = e;
      at = x;
    }
  }
};

TEST(Exp2, AtMostTwoUlpInItsRange) {
  Worst worst;
  for_floats(0.0f, std::nextafter(128.0f, 0.0f), 211, false, [&](float x) { worst.see(ulps(std::exp2(double{x}), exp2(x)), x); });
  for_floats(0.0f, 126.0f, 211, true, [&](float x) { worst.see(ulps(std::exp2(double{x}), exp2(x)), x); });
  for (int whole = -126; whole < 128; ++whole) {
    ASSERT_EQ(exp2(static_cast<float>(whole)), std::ldexp(1.0f, whole));  // powers of two are exact
  }
  EXPECT_LE(worst.error, 2.0) << worst.at;
  RecordProperty("worst", std::to_string(worst.error));
}

TEST(Exp2, ZeroBelowInfinityAboveNanInside) {
  EXPECT_EQ(exp2(std::nextafter(-126.0f, -kInfinity)), 0.0f);
  EXPECT_EQ(exp2(-kInfinity), 0.0f);
  EXPECT_EQ(exp2(-3e38f), 0.0f);
  EXPECT_EQ(exp2(128.0f), kInfinity);
  EXPECT_EQ(exp2(kInfinity), kInfinity);
  EXPECT_EQ(exp2(3e38f), kInfinity);
  EXPECT_TRUE(std::isnan(exp2(NAN)));
  for_floats(128.0f, kInfinity, 10007, false, [](float x) { ASSERT_EQ(exp2(x), kInfinity) << x; });
  for_floats(std::nextafter(126.0f, 127.0f), kInfinity, 10007, false, [](float x) { ASSERT_EQ(exp2(-x), 0.0f) << x; });
}

TEST(Exp, RelativeErrorGrowsWithTheArgument) {
  Worst worst;
  for_floats(0.0f, 87.0f, 211, true, [&](float x) {
    const double exact = std::exp(double{x});
    worst.see(std::abs(exact - double{exp(x)}) / exact / ((2.0 + std::abs(x)) * 0x1p-23), x);
  });
  EXPECT_LE(worst.error, 1.0) << worst.at;
  EXPECT_EQ(exp(-kInfinity), 0.0f);
  EXPECT_EQ(exp(kInfinity), kInfinity);
  EXPECT_EQ(exp(0.0f), 1.0f);
  EXPECT_TRUE(std::isnan(exp(NAN)));
}

/// log2 and log: at most `max_ulps` or 1.2e-7 absolute.
template <class Actual, class Exact>
double worst_log(Actual actual, Exact exact, double max_ulps, Worst& worst) {
  for_floats(std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max(), 211, false, [&](float x) {
    const double e = exact(double{x});
    worst.see(std::min(ulps(e, actual(x)) / max_ulps, std::abs(e - double{actual(x)}) / 1.2e-7), x);
  });
  for_floats(0.5f, 2.0f, 3, false, [&](float x) {
    const double e = exact(double{x});
    worst.see(std::min(ulps(e, actual(x)) / max_ulps, std::abs(e - double{actual(x)}) / 1.2e-7), x);
  });
  return worst.error;
}

TEST(Log2, AtMostThreeUlpOr12e8) {
  Worst worst;
  EXPECT_LE(worst_log([](float x) { return log2(x); }, [](double x) { return std::log2(x); }, 3.0, worst), 1.0) << worst.at;
  for (int whole = -149; whole < 128; ++whole) {
    ASSERT_EQ(log2(std::ldexp(1.0f, whole)), static_cast<float>(whole));
  }
}

TEST(Log, AtMostThreeUlpOr12e8) {
  Worst worst;
  EXPECT_LE(worst_log([](float x) { return log(x); }, [](double x) { return std::log(x); }, 3.0, worst), 1.0) << worst.at;
}

TEST(Log2, Limits) {
  EXPECT_EQ(log2(0.0f), -kInfinity);
  EXPECT_EQ(log2(-0.0f), -kInfinity);
  EXPECT_EQ(log2(kInfinity), kInfinity);
  EXPECT_EQ(log(0.0f), -kInfinity);
  EXPECT_EQ(log(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(log2(NAN)));
  EXPECT_TRUE(std::isnan(log2(-1.0f)));
  EXPECT_TRUE(std::isnan(log2(-kInfinity)));
}

TEST(Tanh, AtMostFourUlp) {
  Worst worst;
  for_floats(0.0f, std::numeric_limits<float>::max(), 211, true, [&](float x) { worst.see(ulps(std::tanh(double{x}), tanh(x)), x); });
  for_floats(0.6f, 0.65f, 1, true, [&](float x) { worst.see(ulps(std::tanh(double{x}), tanh(x)), x); });
  EXPECT_LE(worst.error, 4.0) << worst.at;
  EXPECT_EQ(tanh(kInfinity), 1.0f);
  EXPECT_EQ(tanh(-kInfinity), -1.0f);
  EXPECT_EQ(tanh(0.0f), 0.0f);
  EXPECT_TRUE(std::isnan(tanh(NAN)));
}

TEST(Turns, OffByAtMostTwoToTheMinus22) {
  double worst = 0;
  for (int i = -(1 << 20); i <= 1 << 20; ++i) {
    const float t = static_cast<float>(i) * 0x1p-21f;  // [-1/2, 1/2]
    worst = std::max(worst, std::fabs(double{sin_turns(t)} - sin_turns(double{t})));
    worst = std::max(worst, std::fabs(double{cos_turns(t)} - cos_turns(double{t})));
  }
  EXPECT_LE(worst, 0x1p-22);
  EXPECT_EQ(sin_turns(0.0f), 0.0f);
}

TEST(MinMaxCeilDiv, Basics) {
  EXPECT_EQ(min_(1, 2), 1);
  EXPECT_EQ(max_(1, 2), 2);
  EXPECT_EQ(ceil_div(0, 3), 0);
  EXPECT_EQ(ceil_div(1, 3), 1);
  EXPECT_EQ(ceil_div(3, 3), 1);
  EXPECT_EQ(ceil_div(4, 3), 2);
  EXPECT_EQ(ceil_div(std::int64_t{1} << 40, std::int64_t{3}), ((std::int64_t{1} << 40) + 2) / 3);
}

}  // namespace
}  // namespace fovea::math
