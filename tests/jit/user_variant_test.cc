// Variants given as text give what built-in ones give, bit for bit; they are compiled once, in prepare(), and kept.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <regex>
#include <string>
#include <thread>

#include "backends/builtin_variants.h"
#include "check/case.h"
#include "check/compare.h"
#include "tests/conformance/targets.h"
#include "tests/jit/fixture.h"
#include "tests/jit/run_case.h"
#include "tests/jit/twins.h"

namespace fovea::test {
namespace {

class Twin : public testing::TestWithParam<check::Target> {};

TEST_P(Twin, GivesTheBitsOfItsBuiltIn) {
  const FreshCache cache;
  const bool reference = GetParam().options.backend == "reference";
  const Engine engine(GetParam().options);
  const std::vector<std::string>& drawn = check::variant_names();
  std::size_t compiled = 0;
  for (const VariantInfo& builtin : builtin_variants()) {
    if (std::find(drawn.begin(), drawn.end(), builtin.name) == drawn.end()) {
      continue;
    }
    const Variant twin = twin_of(builtin);
    for (std::int64_t index = 0; index < 6; ++index) {
      check::Case c = check::make_case(7, index, {.variant = builtin.name});
      c.options = reference ? PrepareOptions{} : c.options;
      const check::Outputs expected = run_case(engine, c, c.spec.variant);
      const check::Outputs given = run_case(engine, c, twin);
      EXPECT_EQ(given.o_memory, expected.o_memory) << c.text();
      EXPECT_EQ(given.lse_memory, expected.lse_memory) << c.text();
    }
    EXPECT_EQ(engine.compiled().size(), ++compiled) << "compiled once, whatever the problem";
  }
  EXPECT_GE(compiled, 7u);
}

INSTANTIATE_TEST_SUITE_P(All, Twin, testing::ValuesIn(check::all_targets()), check::name_of_target);

const Variant kScaled = Variant::from_source("scaled", R"(
struct Scaled : VariantBase {
  struct Params {
    float factor;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED(factor))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>&) const {
    return T(p.factor) * logit;
  }
  Params p;
};
)");

float weighted_mean(float factor, int keys = 3) {
  float sum = 0, top = 0;
  for (int i = 0; i < keys; ++i) {
    sum += std::exp(factor * static_cast<float>(i));
    top += std::exp(factor * static_cast<float>(i)) * static_cast<float>(i + 1);
  }
  return top / sum;
}

class UserVariant : public testing::TestWithParam<const char*> {
 protected:
  FreshCache cache_;
  Engine engine_{{.backend = GetParam()}};
};

TEST_P(UserVariant, TakesParametersByName) {
  const Value factor{"factor", 0.5f};
  EXPECT_NEAR(mean_value(engine_, kScaled, {&factor, 1}), weighted_mean(0.5f), 1e-5);
  const Value qualified{"scaled.factor", -1};
  EXPECT_NEAR(mean_value(engine_, "causal" + kScaled, {&qualified, 1}), weighted_mean(-1.0f), 1e-5);
  EXPECT_EQ(message_of([&] { mean_value(engine_, kScaled); }), "run: params 'factor' of variant 'scaled' is not given; it has no default");
  const Value wrong{"facto", 1};
  EXPECT_EQ(message_of([&] {
              mean_value(engine_, kScaled, {&wrong, 1});
            }),
            "run: variant 'scaled' has no params named 'facto'; known: factor; did you mean 'factor'?");
}

TEST_P(UserVariant, ComposesAsWritten) {
  // Two keys of three, and the logits of the user's part after the built-in's.
  const Variant first = Variant::from_source("first_keys", R"(
    struct FirstKeys : VariantBase {
      struct Mask {
        int32_t count;
        template <class I> FOVEA_FN auto keep(const Position<I>& at) const { return at.kv_pos < count; }
        FOVEA_FN constexpr KvRange range() const { return {}; }
        FOVEA_FIELDS(Mask, FOVEA_REQUIRED(count))
      };
      Mask m;
    };)");
  const Value count{"count", 2};
  const Value params[] = {{"factor", 2.0f}, {"cap", 1e6f}};
  EXPECT_NEAR(mean_value(engine_, first + "soft_cap" + kScaled, params, {&count, 1}), weighted_mean(2.0f, 2), 1e-4);
  // Every part built in, the composition isn't.
  const Value both[] = {{"cap", 1e6f}};
  const Value window{"window_left", 1};
  EXPECT_NEAR(mean_value(engine_, "full+sliding_window+soft_cap", both, {&window, 1}),
              (2 * std::exp(1.0f) + 3 * std::exp(2.0f)) / (std::exp(1.0f) + std::exp(2.0f)), 1e-4);
  // Names that two parts share are written with their part.
  const Variant other = Variant::from_source("other", std::regex_replace(kScaled.sources[0].text, std::regex("Scaled"), "Other"));
  const Value plain{"factor", 2.0f};
  EXPECT_EQ(message_of([&] {
              mean_value(engine_, kScaled + other, {&plain, 1});
            }),
            "run: params 'factor' of variant 'scaled+other' is a name of two parts; write 'scaled.factor' or 'other.factor'");
  const Value told_apart[] = {{"scaled.factor", 2.0f}, {"other.factor", 0.25f}};
  EXPECT_NEAR(mean_value(engine_, kScaled + other, told_apart), weighted_mean(0.5f), 1e-5);
}

TEST_P(UserVariant, WithoutSoftmaxARowThatSeesNothingIsAnEmptySum) {
  const Variant sum = Variant::from_source("sum_plus_ten", R"(
    struct SumPlusTen : VariantBase {
      static constexpr bool use_softmax = false;
      struct Mask {
        int32_t count;
        template <class I> FOVEA_FN auto keep(const Position<I>& at) const { return at.kv_pos < count; }
        FOVEA_FN constexpr KvRange range() const { return {}; }
        FOVEA_FIELDS(Mask, FOVEA_REQUIRED(count))
      };
      template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return logit; }
      template <class T> FOVEA_FN T transform_output(T o, const Position<>&) const { return o + T(10); }
      Mask m;
    };)");
  for (const auto& [keys, expected] : {std::pair{3, 0 * 1 + 1 * 2 + 2 * 3 + 10}, std::pair{1, 10}, std::pair{0, 10}}) {
    const Value count{"count", keys};
    EXPECT_EQ(mean_value(engine_, sum, {}, {&count, 1}), static_cast<float>(expected)) << keys << " keys";
  }
}

TEST_P(UserVariant, OtherTextUnderTheSameNameIsAnotherVariant) {
  // A researcher edits and tries again, in the same process: same names in the code, which must not meet.
  const Value factor{"factor", 1.0f};
  for (const char* change : {"T(p.factor)", "T(2) * T(p.factor)", "T(-1) * T(p.factor)"}) {
    const std::string text = std::regex_replace(kScaled.sources[0].text, std::regex("T\\(p\\.factor\\)"), change);
    const float expected = weighted_mean(change[2] == 'p' ? 1.0f : change[2] == '2' ? 2.0f : -1.0f);
    EXPECT_NEAR(mean_value(engine_, Variant::from_source("scaled", text), {&factor, 1}), expected, 1e-5) << change;
  }
  EXPECT_EQ(engine_.compiled().size(), 3u);
}

TEST_P(UserVariant, IsCompiledOnceAndKept) {
  engine_.prepare(small_spec(kScaled), {.max_requests = 1});
  engine_.prepare(small_spec(kScaled), {.max_requests = 2});
  const std::vector<CompileRecord> compiled = engine_.compiled();
  ASSERT_EQ(compiled.size(), 1u);
  EXPECT_FALSE(compiled[0].cached);
  EXPECT_GT(compiled[0].cpu_seconds, 0);
  EXPECT_EQ(compiled[0].variant, "scaled");
  EXPECT_TRUE(compiled[0].target.starts_with(GetParam())) << compiled[0].target;
  EXPECT_TRUE(compiled[0].path.starts_with(cache_.folder.path())) << compiled[0].path;

  const Engine again({.backend = GetParam()});
  const Attention attention = again.prepare(small_spec(kScaled), {.max_requests = 1});
  ASSERT_EQ(again.compiled().size(), 1u);
  EXPECT_TRUE(again.compiled()[0].cached);
  EXPECT_EQ(again.compiled()[0].cpu_seconds, 0);
  EXPECT_NE(attention.explain().find("variant scaled\n  for "), std::string::npos) << attention.explain();

  // Damage on disk costs a compile. (A file of its own: what is mapped must not be written to.)
  std::string bytes = *read_file(compiled[0].path);
  bytes[bytes.size() / 2] ^= 1;
  ASSERT_EQ(write_file(compiled[0].path, bytes), "");
  const Engine third({.backend = GetParam()});
  const Value factor{"factor", 0.5f};
  EXPECT_NEAR(mean_value(third, kScaled, {&factor, 1}), weighted_mean(0.5f), 1e-5);
  EXPECT_FALSE(third.compiled()[0].cached);
}

TEST_P(UserVariant, WorksWithoutACache) {
  const Value factor{"factor", 0.5f};
  for (const char* folder : {"", "/proc/nowhere"}) {
    const Environment none("FOVEA_CACHE_DIR", folder);
    const Engine engine({.backend = GetParam()});
    EXPECT_NEAR(mean_value(engine, kScaled, {&factor, 1}), weighted_mean(0.5f), 1e-5);
    EXPECT_EQ(engine.compiled().at(0).path, "");
  }
}

INSTANTIATE_TEST_SUITE_P(All, UserVariant, testing::Values("cpu", "reference"));

/// What each of eight processes does: exits 0 when the result is right, and says whether it compiled.
TEST(UserVariantProcesses, DISABLED_Child) {
  const Engine engine({.backend = "cpu", .num_threads = 1});
  const Value factor{"factor", 0.5f};
  EXPECT_NEAR(mean_value(engine, kScaled, {&factor, 1}), weighted_mean(0.5f), 1e-5);
  std::printf("%s\n", engine.compiled().at(0).cached ? "found it" : "compiled it");
}

TEST(UserVariantProcesses, EightAtOnceCompileOnce) {
  const FreshCache cache;
  const std::string child[] = {"/proc/self/exe", "--gtest_also_run_disabled_tests", "--gtest_filter=UserVariantProcesses.DISABLED_Child"};
  ProcessResult results[8];
  {
    std::vector<std::jthread> threads;
    for (ProcessResult& result : results) {
      threads.emplace_back([&result, &child] { result = run_process(child); });
    }
  }
  int compiled = 0;
  for (const ProcessResult& result : results) {
    EXPECT_EQ(result.status, 0) << result.output;
    compiled += result.output.find("\ncompiled it\n") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(compiled, 1);
}

TEST(UserVariantThreads, OneEngineManyVariants) {
  const FreshCache cache;
  const Engine engine;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&engine, t] {
      const std::string text =
          std::regex_replace(kScaled.sources[0].text, std::regex("T\\(p\\.factor\\)"), "T(" + std::to_string(t % 3) + ")");
      const Value factor{"factor", 0.0f};
      EXPECT_NEAR(mean_value(engine, Variant::from_source("scaled", text), {&factor, 1}), weighted_mean(static_cast<float>(t % 3)), 1e-5);
    });
  }
  threads.clear();
  EXPECT_EQ(engine.compiled().size(), 3u);
}

}  // namespace
}  // namespace fovea::test
