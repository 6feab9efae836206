// Every wrong call is refused with its whole text, every check in this folder is behind one of those texts, and right calls pass.
#include "src/problem/problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "fovea/error.h"
#include "src/problem/error_cases.h"

namespace fovea::test {
namespace {

std::vector<ErrorCase> all_cases() {
  std::vector<ErrorCase> all;
  for (const auto& part :
       {prepare_error_cases(), batch_error_cases(), composed_error_cases(), device_batch_error_cases(), run_error_cases(),
        cache_error_cases(), values_error_cases(), tiles_error_cases(), append_error_cases(), merge_error_cases()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "(accepted)";
}

TEST(ErrorCases, EachIsRefusedWithItsText) {
  for (const ErrorCase& wrong : all_cases()) {
    EXPECT_EQ(message_of(wrong.call), wrong.text);
  }
}

TEST(ErrorCases, ThereAreManyAndNoTwoAreTheSame) {
  std::set<std::string> texts;
  for (const ErrorCase& wrong : all_cases()) {
    EXPECT_TRUE(texts.insert(wrong.text).second) << wrong.text;
  }
  EXPECT_GE(texts.size(), 60u);
}

/// The text of the string literals at `at` (adjacent ones joined), or nothing when there are none.
std::string literals_at(const std::string& source, std::size_t at) {
  std::string text;
  while (at < source.size()) {
    if (std::isspace(static_cast<unsigned char>(source[at])) != 0) {
      ++at;
    } else if (source[at] == '"') {
      for (++at; source[at] != '"'; ++at) {
        text += source[at];
      }
      ++at;
    } else {
      break;
    }
  }
  return text;
}

/// Format strings of all FOVEA_CHECKs in a source: the first literal that is an argument of its own.
std::vector<std::string> format_strings(const std::string& source) {
  std::vector<std::string> formats;
  const std::string macro = "FOVEA_CHECK(";
  for (std::size_t at = source.find(macro); at != std::string::npos; at = source.find(macro, at + 1)) {
    int depth = 1;
    for (std::size_t i = at + macro.size(); i < source.size() && depth > 0; ++i) {
      depth += source[i] == '(' || source[i] == '{' || source[i] == '[' ? 1 : 0;
      depth -= source[i] == ')' || source[i] == '}' || source[i] == ']' ? 1 : 0;
      if (source[i] == ',' && depth == 1) {
        const std::size_t next = source.find_first_not_of(" \n", i + 1);
        if (source[next] == '"') {
          formats.push_back(literals_at(source, next));
          break;
        }
      }
    }
  }
  return formats;
}

std::regex pattern_of(const std::string& format) {
  std::string pattern;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] == '{') {
      pattern += ".*";
      i = format.find('}', i);
    } else {
      pattern += std::string(std::strchr(".[]()*+?^$|\\", format[i]) != nullptr ? "\\" : "") + format[i];
    }
  }
  return std::regex(pattern);
}

TEST(ErrorCases, EveryCheckInThisFolderHasOne) {
  const std::vector<ErrorCase> cases = all_cases();
  int checks = 0;
  for (const auto& entry : std::filesystem::directory_iterator(FOVEA_SOURCE_DIR "/src/problem")) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with(".cc") || file.ends_with("_test.cc") || file.ends_with("_cases.cc")) {
      continue;
    }
    std::stringstream source;
    source << std::ifstream(entry.path()).rdbuf();
    std::size_t uses = 0;
    for (std::size_t at = source.str().find("FOVEA_CHECK("); at != std::string::npos; at = source.str().find("FOVEA_CHECK(", at + 1)) {
      ++uses;
    }
    const std::vector<std::string> formats = format_strings(source.str());
    ASSERT_EQ(formats.size(), uses) << file << ": a check without a literal text";
    for (const std::string& format : formats) {
      ++checks;
      const std::regex pattern = pattern_of(format);
      const bool found = std::any_of(cases.begin(), cases.end(), [&](const ErrorCase& c) { return std::regex_match(c.text, pattern); });
      EXPECT_TRUE(found) << file << ": no case triggers \"" << format << "\"";
    }
  }
  EXPECT_GT(checks, 100);
}

}  // namespace
}  // namespace fovea::test
