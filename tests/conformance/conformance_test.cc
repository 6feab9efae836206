// backend x variant x dtype x format x page size, lengths and policies at random: every combination has a case of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "check/check.h"
#include "tests/conformance/targets.h"

namespace fovea::check {
namespace {

constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::e4m3, DType::e5m2};

class Conformance : public testing::TestWithParam<std::tuple<Target, std::string>> {};

TEST_P(Conformance, EveryFormatAndDType) {
  const auto& [target, variant] = GetParam();
  const Checker checker(target.options);
  const int cases_each = matrix() == Matrix::full ? 8 : 1;
  const bool all_dtypes = matrix() != Matrix::small;
  std::uint64_t seed = 100;
  std::size_t turn = 0;
  double worst = 0;
  for (const std::string& format : format_names()) {
    for (std::size_t d = 0; d < (all_dtypes ? std::size(kDTypes) : 1); ++d) {
      CaseFilter filter{.variant = variant, .format = format, .dtype = kDTypes[all_dtypes ? d : turn % std::size(kDTypes)]};
      // Pages of one token are a path of their own; every third combination takes it whatever the generator would draw.
      if (++turn % 3 == 0) {
        filter.page_size = 1;
      }
      const Totals totals = checker.run_cases(cases_each, seed++, {}, filter);
      for (const CaseResult& failure : totals.failures) {
        ADD_FAILURE() << failure.text;
      }
      worst = std::max(worst, totals.worst);
    }
  }
  RecordProperty("worst", std::to_string(worst));
}

/// Two composed levels of prefixes and every request's own tokens, each cut into pieces whose states are merged.
TEST_P(Conformance, SplitsOfComposedLevels) {
  const auto& [target, variant] = GetParam();
  const Checker checker(target.options);
  for (const std::int32_t pieces : {1, 2, 7}) {
    const CaseFilter filter{.variant = variant, .format = "three_levels", .pieces = pieces};
    for (const CaseResult& failure : checker.run_cases(matrix() == Matrix::full ? 8 : 2, 7, {}, filter).failures) {
      ADD_FAILURE() << failure.text;
    }
  }
}

std::string name_of_case(const testing::TestParamInfo<std::tuple<Target, std::string>>& info) {
  std::string name = std::get<0>(info.param).name + "_" + std::get<1>(info.param);
  std::replace(name.begin(), name.end(), '+', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Conformance, testing::Combine(testing::ValuesIn(device_targets()), testing::ValuesIn(variant_names())),
                         name_of_case);

class AnyCase : public testing::TestWithParam<Target> {};

/// Nothing fixed: combinations the matrix above doesn't hold (mixed dtypes, several masks, odd page sizes) come up here.
TEST_P(AnyCase, MatchesReference) {
  const Checker checker(GetParam().options);
  const int count = matrix() == Matrix::full ? 5000 : matrix() == Matrix::medium ? 300 : 60;
  const Totals totals = checker.run_cases(count, 1);
  EXPECT_EQ(totals.cases, count);
  for (const CaseResult& failure : totals.failures) {
    ADD_FAILURE() << failure.text;
  }
  RecordProperty("worst", std::to_string(totals.worst));
}

INSTANTIATE_TEST_SUITE_P(All, AnyCase, testing::ValuesIn(device_targets()), name_of_target);

}  // namespace
}  // namespace fovea::check
