// What a person reads when a variant does not compile: the file and line they wrote, words for known mistakes, and no harm done.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <regex>
#include <string>

#include "tests/jit/fixture.h"

namespace fovea::test {
namespace {

struct Mistake {
  const char* name;
  const char* text;
  std::vector<const char*> words;  // regular expressions that the message must match
};

/// A sound variant with one thing wrong. Lines count from the `struct` line, 1.
const Mistake kMistakes[] = {
    {"unknown_name",
     "struct Mine : VariantBase {\n"
     "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const {\n"
     "    return logit + T(bias);\n"
     "  }\n"
     "};\n",
     {"compile: variant 'mine' on cpu avx\\w+ failed \\(", "my/mine\\.h\\(3\\): error: .*bias",
      "source kept in .*; build\\.log beside it"}},
    {"syntax_error",
     "struct Mine : VariantBase {\n"
     "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return logit +; }\n"
     "};\n",
     {"my/mine\\.h\\(2\\): error: "}},
    {"keep_reads_params",
     "struct Mine : VariantBase {\n"
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
    {"misspelt_hook",
     "struct Mine : VariantBase {\n"
     "  template <class T> FOVEA_FN T transform_loggit(T logit, const Position<>&) const { return logit; }\n"
     "};\n",
     {"my/mine\\.h\\(2\\): error: 'transform_loggit' is no hook .*did you mean transform_logit"}},
    {"wrong_signature",
     "struct Mine : VariantBase {\n"
     "  template <class T> FOVEA_FN T transform_logit(T logit) const { return logit; }\n"
     "};\n",
     {"my/mine\\.h\\(2\\): error: transform_logit must be callable as \\(T logit, const Position<>&\\), const"}},
    {"no_member_p",
     "struct Mine : VariantBase {\n"
     "  struct Params { float cap; FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap)) };\n"
     "};\n",
     {"my/mine\\.h\\(2\\): error: .*needs a member `Params p`"}},
    {"no_fields",
     "struct Mine : VariantBase {\n"
     "  struct Params { float cap; };\n"
     "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return logit * T(p.cap); }\n"
     "  Params p;\n"
     "};\n",
     {"my/mine\\.h\\(2\\): error: struct Params does not list its fields"}},
    {"field_of_double",
     "struct Mine : VariantBase {\n"
     "  struct Params {\n"
     "    double cap;\n"
     "    FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap))\n"
     "  };\n"
     "  Params p;\n"
     "};\n",
     {"my/mine\\.h\\(4\\): error: ", "hint: a field of Mask or Params is float, int32_t"}},
    {"no_range",
     "struct Mine : VariantBase {\n"
     "  struct Mask {\n"
     "    template <class I> FOVEA_FN auto keep(const Position<I>& at) const { return at.kv_pos < 3; }\n"
     "    FOVEA_FIELDS(Mask)\n"
     "  };\n"
     "  Mask m;\n"
     "};\n",
     {"my/mine\\.h\\(2\\): error: struct Mask must have range\\(\\)"}},
    {"keep_branches",
     "struct Mine : VariantBase {\n"
     "  struct Mask {\n"
     "    template <class I> FOVEA_FN auto keep(const Position<I>& at) const {\n"
     "      if (at.kv_pos < 4) { return at.kv_pos == 0; }\n"
     "      return at.kv_pos <= at.q_pos;\n"
     "    }\n"
     "    FOVEA_FN constexpr KvRange range() const { return {}; }\n"
     "    FOVEA_FIELDS(Mask)\n"
     "  };\n"
     "  Mask m;\n"
     "};\n",
     {"my/mine\\.h\\(4\\): error: ", "hint: `keep` is asked about whole tiles too"}},
    {"no_variant",
     "struct Mine {\n"
     "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return logit; }\n"
     "};\n",
     {"a variant is a struct that derives from VariantBase"}},
    {"standard_library",
     "struct Mine : VariantBase {\n"
     "  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return std::exp(logit); }\n"
     "};\n",
     {"my/mine\\.h\\(2\\): error: .*std", "hint: a variant is read by GPU compilers too: use math::exp"}},
};

class Compiler : public testing::TestWithParam<std::string> {
 protected:
  FreshCache cache_;
  Environment compiler_{"FOVEA_CXX", GetParam()};
  Engine engine_;
};

TEST_P(Compiler, MistakesAreNamedWhereTheyAreMade) {
  for (const Mistake& mistake : kMistakes) {
    const std::string message =
        message_of([&] { engine_.prepare(small_spec(Variant::from_source("mine", mistake.text, "my/mine.h")), {.max_requests = 1}); });
    for (const char* words : mistake.words) {
      EXPECT_TRUE(std::regex_search(message, std::regex(words))) << mistake.name << " lacks /" << words << "/:\n" << message;
    }
    EXPECT_FALSE(std::regex_search(message, std::regex("fovea-\\w+/(portable|user|backends|source)")))
        << mistake.name << " names a file that is gone:\n"
        << message;
    EXPECT_LT(std::count(message.begin(), message.end(), '\n'), 8) << mistake.name << ":\n" << message;
  }
  // After all that, the engine is what it was.
  EXPECT_TRUE(engine_.compiled().empty());
  engine_.prepare(small_spec("causal"), {.max_requests = 1});
  engine_.prepare(small_spec("causal" + Variant::from_source("mine", "struct Mine : VariantBase {};")), {.max_requests = 1});
}

TEST_P(Compiler, CompositionsThatCannotBe) {
  const Variant weights = Variant::from_source("weights", "struct Weights : VariantBase { static constexpr bool use_softmax = false; };");
  EXPECT_TRUE(std::regex_search(message_of([&] { engine_.prepare(small_spec("sigmoid" + weights), {.max_requests = 1}); }),
                                std::regex("weights\\.h\\(1\\): error: two parts of a composition have use_softmax = false")));
  EXPECT_TRUE(std::regex_search(message_of([&] { engine_.prepare(small_spec("sigmoid+soft_cap"), {.max_requests = 1}); }),
                                std::regex("a part with use_softmax = false must be the last that transforms logits")));
  const Variant sink = Variant::from_source("other_sink",
                                            "struct OtherSink : VariantBase {\n  template <class T> FOVEA_FN T extra_logit(const "
                                            "Position<>&) const { return T(0); }\n};");
  EXPECT_TRUE(std::regex_search(message_of([&] { engine_.prepare(small_spec("sink" + sink), {.max_requests = 1}); }),
                                std::regex("two parts of a composition have extra_logit")));
  EXPECT_EQ(message_of([&] { engine_.prepare(small_spec(weights + weights), {.max_requests = 1}); }),
            "prepare: variant 'weights+weights' has 'weights' twice; its parameters could not be told apart");
}

TEST_P(Compiler, ANameOfTheLibrarysOwnIsExplained) {
  const Variant table = Variant::from_source("table_2_d", "struct Table2D : VariantBase {};");
  const std::string message = message_of([&] { engine_.prepare(small_spec(table), {.max_requests = 1}); });
  EXPECT_TRUE(std::regex_search(message, std::regex("hint: the library has something of that name"))) << message;
}

TEST_P(Compiler, ANameThatIsBuiltInIsRefused) {
  EXPECT_EQ(message_of([&] { engine_.prepare(small_spec(Variant::from_source("soft_cap", "")), {.max_requests = 1}); }),
            "prepare: variant 'soft_cap' is given as text but is built in; give it another name");
}

INSTANTIATE_TEST_SUITE_P(All, Compiler, testing::ValuesIn(compilers()),
                         [](const auto& info) { return info.param == "g++" ? "gcc" : "clang"; });

const Variant kPlain = Variant::from_source("plain", "struct Plain : VariantBase {};");

/// A program that says `version` and fails otherwise.
std::string fake_compiler(const std::string& folder, const std::string& name, const std::string& version) {
  const std::string path = folder + "/" + name;
  write_file(path, "#!/bin/sh\n[ \"$1\" = --version ] && printf '" + version + "' && exit 0\nexit 1\n");
  chmod(path.c_str(), 0755);
  return path;
}

TEST(NoCompiler, IsSaidWithWhatToInstall) {
  const FreshCache cache;
  const TemporaryFolder programs;
  const Environment path("PATH", programs.path());
  const Environment fovea_cxx("FOVEA_CXX", std::nullopt);
  const Environment cxx("CXX", "nvc++ -fast");
  fake_compiler(programs.path(), "g++", "g++ (GCC) 9.4.0\\nCopyright (C) 2019 Free Software Foundation, Inc.\\n");
  fake_compiler(programs.path(), "c++", "Some Compiler 3.1\\n");
  const Engine engine;
  EXPECT_EQ(message_of([&] { engine.prepare(small_spec(kPlain), {.max_requests = 1}); }).substr(0, 17), "compile: variant ");
  const std::string message = message_of([&] { engine.prepare(small_spec(kPlain), {.max_requests = 1}); });
  EXPECT_TRUE(
      message.find("is not compiled into the library, so it needs a C++ compiler (g++ 12 or clang 14, or newer), and none was found:\n"
                   "    CXX      nvc++ -fast: not found\n"
                   "    c++      'Some Compiler 3.1' is neither g++ nor clang++\n"
                   "    g++      'g++ (GCC) 9.4.0' is too old; g++ 12 or newer\n"
                   "    clang++  not found\n"
                   "  install one (apt-get install g++, dnf install gcc-c++) or set FOVEA_CXX to its path") != std::string::npos)
      << message;
  engine.prepare(small_spec("causal"), {.max_requests = 1});  // what is built in needs none
}

TEST(NoCompiler, FoveaCxxIsTakenAtItsWord) {
  const FreshCache cache;
  const Environment fovea_cxx("FOVEA_CXX", "no-such-compiler");
  const Engine engine;
  const std::string message = message_of([&] { engine.prepare(small_spec(kPlain), {.max_requests = 1}); });
  EXPECT_TRUE(message.ends_with("needs a C++ compiler and FOVEA_CXX = 'no-such-compiler' can't be used: not found")) << message;
}

TEST(NoCompiler, ACompilerThatFailsIsQuoted) {
  const FreshCache cache;
  const TemporaryFolder programs;
  const Environment fovea_cxx("FOVEA_CXX", fake_compiler(programs.path(), "cxx", "clang version 17.0.1\\n"));
  const Engine engine;
  const std::string message = message_of([&] { engine.prepare(small_spec(kPlain), {.max_requests = 1}); });
  EXPECT_NE(message.find("failed (clang version 17.0.1)\n    the compiler said nothing"), std::string::npos) << message;
}

}  // namespace
}  // namespace fovea::test
