// FOVEA_COSTS: what it says is taken for the kernel it names, and what can't be read is refused.
#include "backends/cuda/costs.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "fovea/error.h"

namespace fovea::cuda {
namespace {

constexpr CostTable kBuiltIn{.fixed = 24, .per_tile = 16, .per_partial = 8};

class Costs : public testing::Test {
 protected:
  void TearDown() override { unsetenv("FOVEA_COSTS"); }
  static CostTable with(const char* text, const char* kernel = "attention_sm90_decode") {
    setenv("FOVEA_COSTS", text, 1);
    return cost_of(kernel, kBuiltIn);
  }
};

TEST_F(Costs, TheKernelsOwnEntryIsTaken) {
  EXPECT_EQ(cost_of("attention_sm90_decode", kBuiltIn), kBuiltIn);
  EXPECT_EQ(with(""), kBuiltIn);
  EXPECT_EQ(with("attention_sm80:1,2,3,4"), kBuiltIn);
  const CostTable given{.fixed = 5, .per_tile = 6, .per_partial = 0, .least_share = 8};
  EXPECT_EQ(with("attention_sm90_decode:5,6,0,8"), given);
  EXPECT_EQ(with("attention_sm80:1,2,3,4  attention_sm90_decode:5,6,0,8"), given);
}

TEST_F(Costs, WhatCantBeReadIsRefused) {
  for (const char* text :
       {"attention_sm90_decode:1,2,3", "attention_sm90_decode:1,2,3,4,5", "attention_sm90_decode:0,2,3,4", "attention_sm90_decode:1,0,3,4",
        "attention_sm90_decode:1,2,-3,4", "attention_sm90_decode:1,2,3,65537", "attention_sm90_decode:", "attention_sm90_decode"}) {
    EXPECT_THROW(with(text), InvalidArgument) << text;
  }
}

}  // namespace
}  // namespace fovea::cuda
