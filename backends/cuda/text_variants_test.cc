// Variants given as text on GPUs: what the host learns of them from a cubin, and what a person reads when one does not compile, with NVRTC
// alone; their results where there is a GPU.
#include "backends/cuda/text_variants.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <regex>

#include "backends/builtin_variants.h"
#include "backends/cuda/ahead.h"
#include "check/on_device.h"
#include "src/attention.h"
#include "src/problem/problem.h"
#include "tests/jit/fixture.h"
#include "tests/jit/twins.h"

namespace fovea::cuda {
namespace {

constexpr const char* kArchitecture = "sm_90a";

class TextVariantTest : public testing::Test {
 protected:
  void SetUp() override {
    if (compiler_.describe().starts_with("compile:")) {
      GTEST_SKIP() << compiler_.describe();
    }
  }
  Compiler compiler_{kArchitecture, 0};
};

void expect_same(const FieldList& actual, const FieldList& expected, const std::string& what) {
  EXPECT_EQ(actual.struct_bytes, expected.struct_bytes) << what;
  ASSERT_EQ(actual.count, expected.count) << what;
  for (std::int32_t f = 0; f < expected.count; ++f) {
    const Field &a = actual.fields[f], &e = expected.fields[f];
    EXPECT_STREQ(a.name, e.name) << what;
    EXPECT_EQ(a.type, e.type) << what << "." << e.name;
    EXPECT_EQ(a.required, e.required) << what << "." << e.name;
    EXPECT_EQ(a.offset, e.offset) << what << "." << e.name;
    EXPECT_EQ(a.part, e.part) << what << "." << e.name;
    EXPECT_EQ(a.extent, e.extent) << what << "." << e.name;
    EXPECT_EQ(a.at_least, e.at_least) << what << "." << e.name;
    EXPECT_EQ(a.above_zero, e.above_zero) << what << "." << e.name;
  }
}

TEST_F(TextVariantTest, TheCubinSaysWhatTheHostCompilerSaysOfTheSameText) {
  std::vector<CompileRequest> requests;
  for (const VariantInfo& builtin : builtin_variants()) {
    requests.push_back(variant_program(test::twin_of(builtin), kArchitecture));
  }
  const std::vector<jit::Artefact> cubins = compiler_.compile(requests, "twins");
  for (std::size_t i = 0; i < cubins.size(); ++i) {
    const VariantInfo& expected = builtin_variants()[i];
    const TextVariant text(test::twin_of(expected), cubins[i], nullptr);
    const VariantInfo& actual = text.shape();
    expect_same(actual.mask_fields, expected.mask_fields, expected.name + ".mask");
    expect_same(actual.param_fields, expected.param_fields, expected.name + ".params");
    EXPECT_EQ(actual.use_softmax, expected.use_softmax) << expected.name;
    EXPECT_EQ(actual.has_extra_logit, expected.has_extra_logit) << expected.name;
    EXPECT_EQ(actual.transforms_query, expected.transforms_query) << expected.name;
    EXPECT_EQ(actual.transforms_key, expected.transforms_key) << expected.name;
    EXPECT_EQ(actual.transforms_value, expected.transforms_value) << expected.name;
    EXPECT_EQ(actual.tile_answer, expected.tile_answer) << expected.name;
    VariantStorage defaults[2] = {};
    actual.fill_default_mask(defaults[0].bytes);
    expected.fill_default_mask(defaults[1].bytes);
    for (std::int32_t f = 0; f < expected.mask_fields.count; ++f) {
      const Field& field = expected.mask_fields.fields[f];
      EXPECT_EQ(std::memcmp(defaults[0].bytes + field.offset, defaults[1].bytes + field.offset, 4), 0)
          << expected.name << "." << field.name;
    }
    actual.fill_default_params(defaults[0].bytes);
    expected.fill_default_params(defaults[1].bytes);
    for (std::int32_t f = 0; f < expected.param_fields.count; ++f) {
      const Field& field = expected.param_fields.fields[f];
      EXPECT_EQ(std::memcmp(defaults[0].bytes + field.offset, defaults[1].bytes + field.offset, 4), 0)
          << expected.name << "." << field.name;
    }
  }
}

struct Mistake {
  const char* text;
  std::vector<const char*> words;  // regular expressions that the message must match
};

TEST_F(TextVariantTest, MistakesAreNamedWhereTheyAreMade) {
  const Mistake mistakes[] = {
      {"struct Mine : VariantBase {\n"
       "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const {\n"
       "    return logit + T(bias);\n"
       "  }\n"
       "};\n",
       {"compile: variant 'mine' for sm_90a failed \\(NVRTC", "my/mine\\.h\\(3\\): error: .*bias"}},
      {"struct Mine : VariantBase {\n"
       "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return logit +; }\n"
       "};\n",
       {"my/mine\\.h\\(2\\): error: expected an expression"}},
      {"struct Mine : VariantBase {\n"
       "  struct Params { int32_t limit; FOVEA_FIELDS(Params, FOVEA_REQUIRED(limit)) };\n"
       "  struct Mask {\n"
       "    template <class I> FOVEA_FN auto keep(const Position<I>& at) const { return at.kv_pos <= p.limit; }\n"
       "    FOVEA_FN constexpr KvRange range() const { return {}; }\n"
       "    FOVEA_FIELDS(Mask)\n"
       "  };\n"
       "  Mask m;\n"
       "  Params p;\n"
       "};\n",
       {"my/mine\\.h\\(4\\): error: ", "hint: a hook of Mask sees the fields of Mask alone"}},
      {"struct Mine : VariantBase {\n"
       "  template <class T> FOVEA_FN T transform_logit(T logit) const { return logit; }\n"
       "};\n",
       {"error: .*transform_logit must be callable as \\(T logit, const Position<>&\\), const"}},
      {"struct Mine : VariantBase {\n"
       "  struct Params {\n"
       "    double cap;\n"
       "    FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap))\n"
       "  };\n"
       "  Params p;\n"
       "};\n",
       {"my/mine\\.h\\(4\\): error: ", "hint: a field of Mask or Params is float, int32_t"}},
      {"struct Mine : VariantBase {\n"
       "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return std::exp(logit); }\n"
       "};\n",
       {"my/mine\\.h\\(2\\): error: .*std", "hint: a variant is read by GPU compilers too: use math::exp"}},
      {"struct Mine {\n"
       "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return logit; }\n"
       "};\n",
       {"a variant is a struct that derives from VariantBase"}},
  };
  for (const Mistake& mistake : mistakes) {
    const std::string message = test::message_of([&] {
      const CompileRequest request = variant_program(Variant::from_source("mine", mistake.text, "my/mine.h"), kArchitecture);
      compiler_.compile({&request, 1}, "mine");
    });
    for (const char* words : mistake.words) {
      EXPECT_TRUE(std::regex_search(message, std::regex(words))) << "lacks /" << words << "/:\n" << message;
    }
    EXPECT_LT(std::count(message.begin(), message.end(), '\n'), 8) << message;
  }
}

/// The GPU of this machine, or a skipped test.
class TextVariantOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    try {
      engine_.emplace(EngineOptions{.backend = "cuda"});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  check::Outputs run_case(const check::Case& c, const Variant& variant) const {
    AttentionSpec spec = c.spec;
    spec.variant = variant;
    const Attention attention = engine_->prepare(spec, c.limits, c.options);
    Plan plan = attention.new_plan();
    const check::CaseOnDevice moved(*engine_, c);
    check::Outputs outputs = check::make_outputs(c, spec.o_dtype);
    check::OutputsOnDevice results(*engine_, outputs);
    RunArgs args = moved.run();
    args.o = results.o();
    args.lse = results.lse();
    attention.plan(plan, moved.batch(), {.masks = moved.masks()});
    attention.run(plan, args);
    results.fetch();
    return outputs;
  }

  std::optional<Engine> engine_;
};

class Twin : public TextVariantOnGpu, public testing::WithParamInterface<const char*> {};

TEST_P(Twin, GivesTheBitsOfItsBuiltIn) {
  const Variant twin = test::twin_of(builtin_variant(GetParam()));
  const check::Case c = check::make_case(7, 0, {.variant = GetParam(), .dtype = DType::bf16});
  const check::Outputs expected = run_case(c, c.spec.variant);
  const check::Outputs given = run_case(c, twin);
  EXPECT_EQ(given.o_memory, expected.o_memory) << c.text();
  EXPECT_EQ(given.lse_memory, expected.lse_memory) << c.text();
}
INSTANTIATE_TEST_SUITE_P(All, Twin,
                         testing::Values("causal+soft_cap", "sliding_window+sink", "causal+sigmoid", "causal+document", "temperature"));

TEST_F(TextVariantOnGpu, CompositionsThatAreNotBuiltIn) {
  // Causal twice is causal once; and a part that is built in beside one that isn't.
  const check::Case c = check::make_case(3, 1, {.variant = "causal+soft_cap", .dtype = DType::bf16});
  const check::Outputs expected = run_case(c, c.spec.variant);
  for (const Variant& same :
       {Variant("full+causal+soft_cap"), "causal" + Variant::from_source("mine", "struct Mine : VariantBase {};") + "soft_cap"}) {
    const check::Outputs given = run_case(c, same);
    EXPECT_EQ(given.o_memory, expected.o_memory) << same.name;
  }
}

TEST_F(TextVariantOnGpu, MistakesLeaveTheEngineUsable) {
  const Variant wrong =
      Variant::from_source("mine", "struct Mine : VariantBase { int f() { return x; } int g() { return f(); } int h = g(); };");
  const check::Case c = check::make_case(3, 1, {.variant = "causal", .dtype = DType::bf16});
  const check::Outputs before = run_case(c, "causal");
  EXPECT_THROW(run_case(c, wrong), CompileFailed);
  EXPECT_EQ(run_case(c, "causal").o_memory, before.o_memory);
}

}  // namespace
}  // namespace fovea::cuda
