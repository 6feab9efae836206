// Transforms of queries, keys and values that no built-in variant has: of values, of elements one by one, several in written order.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "check/case.h"
#include "check/compare.h"
#include "tests/conformance/targets.h"
#include "tests/jit/fixture.h"
#include "tests/jit/run_case.h"

namespace fovea::test {
namespace {

/// Powers of two: logits stay what they were, outputs are four times as large.
const Variant kPowers = Variant::from_source("powers", R"(
struct Powers : VariantBase {
  template <class T> FOVEA_FN T transform_query(T x, Element, const Position<>&) const { return x * T(0.5); }
  template <class T> FOVEA_FN T transform_key(T x, Element, const Position<>&) const { return x * T(2); }
  template <class T> FOVEA_FN T transform_value(T x, Element, const Position<>&) const { return x * T(4); }
};
)");

/// Values by position and element; queries by position.
const Variant kShifted = Variant::from_source("shifted", R"(
struct Shifted : VariantBase {
  template <class T> FOVEA_FN T transform_query(T x, Element, const Position<>& at) const { return x * T(1 + at.q_pos % 3); }
  template <class T> FOVEA_FN T transform_value(T x, Element e, const Position<>& at) const {
    return x + T(10) * T(at.kv_pos) + T(100) * T(e.i % 2);
  }
};
)");

const Variant kTwice = Variant::from_source("twice", R"(
struct Twice : VariantBase {
  template <class T> FOVEA_FN T transform_value(T x, Element, const Position<>&) const { return T(2) * x; }
};
)");

class RowTransform : public testing::TestWithParam<check::Target> {
 protected:
  FreshCache cache_;
  Engine engine_{GetParam().options};
};

TEST_P(RowTransform, OfPowersOfTwoChangesOutputsByTheirs) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::e4m3}) {
    for (std::int64_t index = 0; index < 25; ++index) {
      check::Case c = check::make_case(11, index, {.variant = "causal", .dtype = dtype});
      const check::Dense plain = check::dense_of(c, run_case(engine_, c, "causal"));
      const check::Dense given = check::dense_of(c, run_case(engine_, c, "causal" + kPowers));
      // Outputs of 16 bits are rounded; and 8-bit keys are scaled before the product instead of after it.
      const double rounding = c.spec.o_dtype == DType::f32 && c.spec.q_dtype == DType::f32 ? 2e-5 : 2e-2;
      for (std::size_t i = 0; i < plain.o.size(); ++i) {
        ASSERT_NEAR(given.o[i], 4 * plain.o[i], rounding * (4 + std::fabs(plain.o[i]))) << c.text();
      }
      for (std::size_t i = 0; c.with_lse && i < plain.lse.size(); ++i) {
        ASSERT_TRUE(given.lse[i] == plain.lse[i] || std::fabs(given.lse[i] - plain.lse[i]) < rounding) << c.text();
      }
    }
  }
}

TEST_P(RowTransform, SeesPositionsAndElements) {
  // Logits 0, 1, 2; the query stands at position 2 and is three times as large.
  double sum = 0, weighted = 0;
  for (int i = 0; i < 3; ++i) {
    sum += std::exp(3.0 * i);
    weighted += std::exp(3.0 * i) * (i + 1 + 10 * i);
  }
  EXPECT_NEAR(mean_value(engine_, kShifted), weighted / sum, 1e-4);  // element 0
}

TEST_P(RowTransform, ComposesAsWritten) {
  double sum = 0, shifted_first = 0, twice_first = 0;
  for (int i = 0; i < 3; ++i) {
    const double weight = std::exp(3.0 * i);
    sum += weight;
    shifted_first += weight * 2 * (i + 1 + 10 * i);
    twice_first += weight * (2 * (i + 1) + 10 * i);
  }
  EXPECT_NEAR(mean_value(engine_, kShifted + kTwice), shifted_first / sum, 1e-4);
  EXPECT_NEAR(mean_value(engine_, kTwice + kShifted), twice_first / sum, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(All, RowTransform, testing::ValuesIn(check::all_targets()), check::name_of_target);

/// Pages, heads side by side, splits, prefixes: what moves rows about must move positions with them.
TEST(RowTransforms, AreTheReferencesOnEveryKindOfBatch) {
  const FreshCache cache;
  const Engine reference({.backend = "reference"}), cpu;
  for (const std::string& format : check::format_names()) {
    for (std::int64_t index = 0; index < 4; ++index) {
      check::Case c = check::make_case(12, index, {.variant = "causal", .format = format, .dtype = DType::f32});
      const check::Dense expected = check::dense_of(c, run_case(reference, c, "causal" + kShifted));
      const check::Dense given = check::dense_of(c, run_case(cpu, c, "causal" + kShifted));
      for (std::size_t i = 0; i < expected.o.size(); ++i) {
        ASSERT_NEAR(given.o[i], expected.o[i], 1e-4 * (100 + std::fabs(expected.o[i]))) << c.text();
      }
    }
  }
}

}  // namespace
}  // namespace fovea::test
