// Generated source, byte for byte, and what a variant's name and text may be.
#include "src/jit/program.h"

#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <sstream>

#include "fovea/error.h"

namespace fovea::jit {
namespace {

const char* const kCap =
    "struct MyCap : VariantBase {\n  template <class T> FOVEA_FN T transform_logit(T x, const Position<>&) const { return x; }\n};\n";

Program program_of(const Variant& variant, std::string_view target = "cpu avx2") {
  const VariantProgram resolved = resolve_variant(variant);
  const std::array<std::string_view, 1> includes{"backends/x/kernel.h"};
  return generate_program({.variant = resolved,
                           .target = target,
                           .source_name = "source.cc",
                           .includes = includes,
                           .last_lines = "FOVEA_EXPORT(Rule)",
                           .folders = {}});
}

std::string error_of(const Variant& variant) {
  try {
    resolve_variant(variant);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(JitProgram, GeneratedSourceIsTenLines) {
  const Program program = program_of("sliding_window" + Variant::from_source("my_cap", kCap, "dir/cap.h") + "sink");
  EXPECT_EQ(program.source,
            "// fovea: variant sliding_window+my_cap+sink for cpu avx2\n"
            "#include \"backends/x/kernel.h\"\n"
            "#include \"portable/compose.h\"\n"
            "#include \"portable/variant_shape.h\"\n"
            "#include \"variants/sliding_window.h\"\n"
            "#include \"variants/sink.h\"\n"
            "using namespace fovea;\n"
            "#include \"user/my_cap.h\"\n"
            "static_assert(fovea::parts_are_whole<fovea::SlidingWindow, MyCap, fovea::Sink>());\n"
            "using Rule = fovea::Compose<fovea::SlidingWindow, MyCap, fovea::Sink>;\n"
            "FOVEA_EXPORT(Rule)\n");
  ASSERT_EQ(program.headers.size(), 1u);
  EXPECT_EQ(program.headers[0].path, "user/my_cap.h");
  EXPECT_EQ(program.headers[0].text, "#line 1 \"dir/cap.h\"\n" + std::string(kCap) + "\n");
  EXPECT_EQ(resolve_variant("causal").type, "fovea::Causal");
}

TEST(JitProgram, EmbeddedFilesAreTheRepositorys) {
  const Program program = program_of("causal");
  int variants = 0;
  for (const SourceFile& file : program.embedded) {
    const std::string path = std::string(FOVEA_SOURCE_DIR) + (file.path.starts_with("fovea/") ? "/include/" : "/") + std::string(file.path);
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    EXPECT_EQ(file.text, text.str()) << path;
    variants += file.path.starts_with("variants/") ? 1 : 0;
    EXPECT_FALSE(file.path.starts_with("backends/")) << "no backend asked for it";
  }
  EXPECT_GE(variants, 7);
}

TEST(JitProgram, TheKeyIsOfEverythingTheCompilerSees) {
  const std::array<std::string_view, 2> compiler{"g++ 12.2", "-O3"};
  const std::array<std::string_view, 2> other_flags{"g++ 12.2", "-O2"};
  const Variant variant = "causal" + Variant::from_source("my_cap", kCap);
  const Program program = program_of(variant);
  const Digest key = key_of(program, compiler);
  EXPECT_EQ(key, key_of(program_of(variant), compiler));
  EXPECT_EQ(key, key_of(program_of("causal" + Variant::from_source("my_cap", kCap, "elsewhere/cap.h")), compiler)) << "where the text lies";
  EXPECT_NE(key, key_of(program, other_flags));
  EXPECT_NE(key, key_of(program_of(variant, "cpu avx512"), compiler));
  EXPECT_NE(key, key_of(program_of("causal" + Variant::from_source("my_cap", std::string(kCap) + " ")), compiler));
  EXPECT_NE(key, key_of(program_of(Variant::from_source("my_cap", kCap) + "causal"), compiler));
  Program changed = program;
  const std::string text = std::string(changed.embedded[0].text) + " ";
  changed.embedded[0].text = text;
  EXPECT_NE(key, key_of(changed, compiler));
}

TEST(JitProgram, NamesThatCannotBe) {
  EXPECT_EQ(error_of("causal+my_cap").substr(0, 61), "prepare: variant 'causal+my_cap': no variant is named 'my_cap");
  EXPECT_EQ(error_of(Variant::from_source("MyCap", kCap)),
            "prepare: variant name 'MyCap'; a name is snake_case: a letter a-z, then letters, digits and '_'");
  EXPECT_EQ(error_of(Variant::from_source("a+b", kCap)),
            "prepare: variant name 'a+b'; a name is snake_case: a letter a-z, then letters, digits and '_'");
  EXPECT_EQ(error_of(Variant::from_source("soft_cap", kCap)),
            "prepare: variant 'soft_cap' is given as text but is built in; give it another name");
  EXPECT_EQ(error_of(Variant::from_source("my_cap", kCap) + Variant::from_source("my_cap", kCap)),
            "prepare: variant 'my_cap+my_cap' has 'my_cap' twice; its parameters could not be told apart");
  EXPECT_EQ(error_of(Variant::from_source("my_cap", kCap) + Variant::from_source("my_cap", "other", "b.h")),
            "prepare: variant 'my_cap+my_cap' has two texts named 'my_cap' (my_cap.h and b.h); names tell parts apart");
  EXPECT_EQ(error_of("causal" + Variant::from_source("my_cap", kCap)), "accepted");
}

TEST(JitProgram, OnlyTheLibrarysHeadersAreIncluded) {
  const std::string own = "#include \"portable/variant.h\"\n#include <variants/causal.h>\n";
  EXPECT_EQ(error_of(Variant::from_source("my_cap", own + kCap)), "accepted");
  EXPECT_EQ(
      error_of(Variant::from_source("my_cap", own + "  # include <cmath> // why\n" + kCap, "a/cap.h")),
      "compile: variant 'my_cap'\n    a/cap.h(3): error: includes 'cmath'; a variant may include headers of portable/ and variants/ alone "
      "(math:: has exp, log, tanh, ...)");
}

TEST(JitProgram, FromFileReadsAndNames) {
  const Variant variant = Variant::from_file(std::string(FOVEA_SOURCE_DIR) + "/variants/soft_cap.h");
  EXPECT_EQ(variant.name, "soft_cap");
  EXPECT_NE(variant.sources.at(0).text.find("struct SoftCap"), std::string::npos);
  EXPECT_THROW(Variant::from_file("/nowhere/x.h"), InvalidArgument);
}

TEST(JitProgram, ConfigsAreWrittenWithNames) {
  const KernelConfig config{
      .tile_q = 64, .tile_kv = 128, .form = PlanForm::ranges, .cost = {.fixed = 1, .per_tile = 2, .per_partial = 3, .least_share = 4}};
  EXPECT_EQ(to_source(config),
            "fovea::KernelConfig{.tile_q = 64, .tile_kv = 128, .form = fovea::PlanForm::ranges, "
            ".cost = {.fixed = 1, .per_tile = 2, .per_partial = 3, .least_share = 4}}");
}

}  // namespace
}  // namespace fovea::jit
