// What a look at a variant's text finds, with the line, and what it leaves alone.
#include "src/jit/look.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "fovea/error.h"
#include "src/jit/embedded.h"
#include "src/jit/outline.h"

namespace fovea::jit {
namespace {

std::string verdict(const std::string& text, const std::string& name = "my_cap") {
  try {
    check_text({.name = name, .type = pascal_case(name), .header = "user/x.h", .builtin = false, .text = text, .file = "x.h"});
  } catch (const CompileFailed& error) {
    const std::string what = error.what();
    return what.substr(what.find('\n') + 5);
  }
  return "sound";
}

std::string in_cap(const std::string& body) { return "// A cap.\nstruct MyCap : VariantBase {\n" + body + "};\n"; }

TEST(JitLook, EveryBuiltInIsSound) {
  int count = 0;
  for (const SourceFile& file : embedded_sources()) {
    if (file.path.starts_with("variants/")) {
      EXPECT_EQ(verdict(std::string(file.text), std::string(file.path.substr(9, file.path.size() - 11))), "sound") << file.path;
      ++count;
    }
  }
  EXPECT_GE(count, 7);
}

TEST(JitLook, MisspeltHooks) {
  EXPECT_EQ(
      verdict(in_cap("  template <class T> FOVEA_FN T transform_logits(T x, const Position<>&) const { return x; }\n")),
      "x.h(3): error: 'transform_logits' is no hook and nothing calls it, did you mean transform_logit?; hooks here: transform_query, "
      "transform_key, transform_value, transform_logit, extra_logit, transform_output, num_paired");
  EXPECT_EQ(
      verdict(in_cap("  struct Mask {\n    int32_t reach;\n    template <class I>\n    FOVEA_FN auto keeps(const Position<I>& at) const {\n"
                     "      return at.kv_pos < reach;\n    }\n    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(reach))\n  };\n  Mask m;\n")),
      "x.h(6): error: 'keeps' is no hook and nothing calls it, did you mean keep?; hooks here: keep, range");
  EXPECT_EQ(verdict(in_cap("  float score_mod(float x) const { return x; }\n")).substr(0, 58),
            "x.h(3): error: 'score_mod' is no hook and nothing calls it");
}

TEST(JitLook, MisspeltConstantsAndStructs) {
  EXPECT_EQ(verdict(in_cap("  static constexpr bool use_sofmax = false;\n")),
            "x.h(3): error: nothing reads 'use_sofmax', did you mean use_softmax?");
  EXPECT_EQ(verdict(in_cap("  static constexpr Pairing paring{Pairing::half};\n")),
            "x.h(3): error: nothing reads 'paring', did you mean pairing?");
  const std::string body =
      "\n    template <class I> FOVEA_FN auto keep(const Position<I>& at) const { return at.kv_pos < 3; }\n"
      "    FOVEA_FN constexpr KvRange range() const { return {}; }\n    FOVEA_FIELDS(Masks)\n  };\n";
  EXPECT_EQ(verdict(in_cap("  struct Masks {" + body + "  Masks m;\n")), "x.h(3): error: nothing reads struct Masks, did you mean Mask?");
  EXPECT_EQ(verdict(in_cap("  struct Masks {" + body + "  struct Mask : Masks {\n    FOVEA_FIELDS(Mask)\n  };\n  Mask m;\n")), "sound");
}

TEST(JitLook, AnInheritedRangeIsAnotherMasks) {
  EXPECT_EQ(
      verdict(in_cap("  struct Mask : VariantBase::Mask {\n    template <class I>\n    FOVEA_FN auto keep(const Position<I>& at) const { "
                     "return at.kv_pos < 3; }\n    FOVEA_FIELDS(Mask)\n  };\n  Mask m;\n"))
          .substr(0, 50),
      "x.h(3): error: struct Mask must have range(), a Kv");
}

TEST(JitLook, HooksInTheWrongStruct) {
  EXPECT_EQ(
      verdict(in_cap("  template <class I> FOVEA_FN auto keep(const Position<I>& at) const { return at.kv_pos < 3; }\n")),
      "x.h(3): error: keep is in struct MyCap, where nothing calls it; it is a member of struct Mask, because a plan needs it and has no "
      "Params");
  EXPECT_EQ(verdict(in_cap("  struct Params {\n    template <class T> FOVEA_FN T extra_logit(const Position<>&) const { return T(0); }\n"
                           "    FOVEA_FIELDS(Params)\n  };\n  Params p;\n")),
            "x.h(4): error: extra_logit is in struct Params, where nothing calls it; it is a member of struct MyCap");
}

TEST(JitLook, FieldsThatNobodyCanGive) {
  EXPECT_EQ(verdict(in_cap("  struct Params {\n    float cap;\n  };\n  Params p;\n")).substr(0, 60),
            "x.h(3): error: struct Params does not list its fields; end i");
  const std::string listed = "    FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap))\n  };\n  Params p;\n";
  EXPECT_EQ(verdict(in_cap("  struct Params {\n    float cap,\n          base;\n" + listed)),
            "x.h(5): error: field 'base' has no default and is not in FOVEA_FIELDS, so nobody can give it a value");
  EXPECT_EQ(verdict(in_cap("  struct Params {\n    float cap; float base = 2.0f; int32_t n{3}; static constexpr int k = 2;\n" + listed)),
            "sound");
}

TEST(JitLook, TheStructHasTheVariantsName) {
  EXPECT_EQ(verdict("struct Cap : VariantBase {};\nstruct Other {};\n"),
            "x.h(1): error: no struct MyCap is defined here; the variant named my_cap is a struct of that name (found: Cap, Other)");
  EXPECT_EQ(verdict("// struct MyCap {\nconst char* s = \"struct MyCap { \";"),
            "x.h(1): error: no struct MyCap is defined here; the variant named "
            "my_cap is a struct of that name");
  EXPECT_EQ(verdict("namespace fovea {\nstruct MyCap : VariantBase {\n};\n}\n"), "sound");
}

TEST(JitLook, HelpersCommentsAndLiteralsAreLeftAlone) {
  EXPECT_EQ(verdict(in_cap(R"(  // float keep(int) { }
  /* float transform_logitt() {
  } */
  template <class T>
    requires(sizeof(T) > 0)
  FOVEA_FN static T half(T x) {
    const char* text = "} float f() {";
    if (x > T(1'000) || '{' == '}') { return x; }
    return x / T(2);
  }
  template <class T, class U = T>
  FOVEA_FN auto transform_logit(T logit, const Position<>& at) const -> T { return half(logit) + T(at.kv_pos); }
  static constexpr bool use_softmax = true;
)")),
            "sound");
}

TEST(JitLook, AnyTextIsReadToItsEnd) {
  // Cut off anywhere, with anything replaced: an answer, not a crash or a hang.
  const std::string text =
      in_cap("  struct Mask { int32_t a[3] = {1, 2}; /* */ FOVEA_FIELDS(Mask, FOVEA_REQUIRED(a)) };\n  Mask m; // \"\n#define X \\\n  y\n");
  for (std::size_t i = 0; i <= text.size(); ++i) {
    outline_of(text.substr(0, i));
    for (const char c : {'{', '}', '(', ')', '<', '"', '\'', '#', '\n', '\\', '/'}) {
      std::string changed = text;
      changed.insert(i, 1, c);
      outline_of(changed);
    }
  }
}

}  // namespace
}  // namespace fovea::jit
