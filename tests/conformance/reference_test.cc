// The reference backend against the dense computation, over everything the generator draws.
#include <gtest/gtest.h>

#include "check/check.h"

namespace fovea::check {
namespace {

TEST(Reference, MatchesDenseComputation) {
  const Checker checker({.backend = "reference"});
  const Totals totals = checker.run_cases(400, 1);
  EXPECT_EQ(totals.cases, 400);
  for (const CaseResult& failure : totals.failures) {
    ADD_FAILURE() << failure.text;
  }
}

}  // namespace
}  // namespace fovea::check
