// Compiler logs as people read them, in the forms of three compilers.
#include "src/jit/explain_log.h"

#include <gtest/gtest.h>

namespace fovea::jit {
namespace {

const Program kProgram{.source_name = "source.cc",
                       .source = {},
                       .headers = {{"user/my_cap.h", "#line 1 \"dir/my_cap.h\"\nstruct MyCap {};\n"}},
                       .embedded = {}};

std::string explained(std::string_view log) { return explain_log(kProgram, log, "/tmp/x/"); }

TEST(ExplainLog, ErrorsInTheCallersLines) {
  const std::string expected = "    dir/my_cap.h(9): error: 'biass' was not declared in this scope";
  EXPECT_EQ(explained("In file included from /tmp/x/source.cc:5:\ndir/my_cap.h: In member function 'T MyCap::f(T)':\n"
                      "dir/my_cap.h:9:12: error: 'biass' was not declared in this scope\n    9 |   biass\n      |   ^~~~~\n"),
            expected);
  EXPECT_EQ(explained("dir/my_cap.h:9:12: fatal error: 'biass' was not declared in this scope\n1 error generated.\n"), expected);
  EXPECT_EQ(explained("dir/my_cap.h(9): error: 'biass' was not declared in this scope\n\n1 error detected\n"), expected);
  EXPECT_EQ(explained("dir/my_cap.h(9): error #20: 'biass' was not declared in this scope\n"), expected);
}

TEST(ExplainLog, ErrorsInTheLibraryNameTheLineThatLedThere) {
  EXPECT_EQ(explained("/tmp/x/portable/fields.h: In instantiation of 'struct X':\n"
                      "dir/my_cap.h:4:5:   required from here\n"
                      "/tmp/x/portable/fields.h:85:3: error: incomplete type 'fovea::FieldTypeOf<double>' used\n"),
            "    dir/my_cap.h(4): error: incomplete type 'fovea::FieldTypeOf<double>' used (seen by portable/fields.h(85))\n"
            "  hint: a field of Mask or Params is float, int32_t, a Table or Table2D of these, or BitMask: what a caller can give by name");
  EXPECT_EQ(explained("/tmp/x/portable/fields.h:85:3: error: no type\ndir/my_cap.h:4:5: note: in instantiation of it\n"),
            "    dir/my_cap.h(4): error: no type (seen by portable/fields.h(85))");
}

TEST(ExplainLog, SentencesOfOursNameTheLineTheyAreAbout) {
  Program program = kProgram;
  const std::string text =
      "struct MyCap {\n  static constexpr bool use_softmax = false;\n  float transform_logit(float) { return 0; }\n};\n";
  program.headers = {{"user/my_cap.h", "#line 1 \"dir/my_cap.h\"\n" + text}};
  const std::string sentence = "transform_logit must be callable as (T, U)";
  const std::string expected = "    dir/my_cap.h(3): error: " + sentence + " (seen by portable/check_hooks.h(33))";
  for (const std::string& said : {"33:7: error: static assertion failed: " + sentence,
                                  "33:7: error: static_assert failed due to requirement 'use_softmax<MyCap>' \"" + sentence + "\"",
                                  "33:7: error: static assertion failed due to requirement 'use_softmax<MyCap>': " + sentence}) {
    EXPECT_EQ(explain_log(program, "/tmp/x/portable/check_hooks.h:" + said + "\n", "/tmp/x/"), expected);
  }
  EXPECT_EQ(explain_log(program, "portable/check_hooks.h(33): error: static assertion failed with \"" + sentence + "\"\n", ""), expected);
  program.headers.push_back({"user/other.h", "#line 1 \"other.h\"\n" + text});
  EXPECT_EQ(explain_log(program, "portable/check_hooks.h:33:7: error: static assertion failed: " + sentence + "\n", ""),
            "    portable/check_hooks.h(33): error: static assertion failed: " + sentence);
}

TEST(ExplainLog, EchoesAreLeftOut) {
  const std::string first = "dir/my_cap.h:3:1: error: one\n";
  EXPECT_EQ(explained(first + "/tmp/x/portable/compose.h:9:1: error: echo\n"), "    dir/my_cap.h(3): error: one");
  EXPECT_EQ(explained("/tmp/x/portable/compose.h:9:1: error: static assertion failed: in words\ndir/my_cap.h:3:1: error: after\n"),
            "    portable/compose.h(9): error: static assertion failed: in words");
  std::string many;
  for (int i = 1; i <= 9; ++i) {
    many += "dir/my_cap.h:" + std::to_string(i) + ":1: error: e\n";
  }
  EXPECT_EQ(explained(many), "    dir/my_cap.h(1): error: e\n    dir/my_cap.h(2): error: e\n    dir/my_cap.h(3): error: e");
}

TEST(ExplainLog, HintsForWhatNvrtcSays) {
  EXPECT_EQ(
      explained("dir/my_cap.h(2): error: namespace \"std\" has no member \"exp\"\n"),
      "    dir/my_cap.h(2): error: namespace \"std\" has no member \"exp\"\n"
      "  hint: a variant is read by GPU compilers too: use math::exp, math::log, math::tanh, min_, max_ instead of the standard library");
  EXPECT_NE(explained("dir/my_cap.h(4): error: identifier \"p\" is undefined\n").find("\n  hint: hooks read parameters"),
            std::string::npos);
}

TEST(ExplainLog, ALogWithoutErrorsIsQuoted) {
  EXPECT_EQ(explained(""), "    the compiler said nothing");
  EXPECT_EQ(explained("g++: internal compiler trouble\nsecond\n"), "    g++: internal compiler trouble\n    second");
  EXPECT_EQ(explained(std::string(100000, 'x') + ": error: y\n").size() > 0, true);
}

}  // namespace
}  // namespace fovea::jit
