#include "src/jit/look.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

#include "src/support/check.h"

namespace fovea::jit {
namespace {

[[noreturn]] void refuse(const VariantPart& part, std::size_t line, const std::string& what) {
  throw CompileFailed(fmt::format("compile: variant '{}'\n    {}({}): {}", part.name, part.file, line, what));
}

/// What a text includes is part of what it means: only the library's own headers, which it brings along everywhere.
void check_includes(const VariantPart& part) {
  static const std::regex include(R"(^\s*#\s*include\s*([<"])([^>"]*)[>"].*)");
  const std::span<const SourceFile> known = embedded_sources();
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < part.text.size(); ++number) {
    const std::size_t end = std::min(part.text.find('\n', begin), part.text.size());
    const std::string line = part.text.substr(begin, end - begin);
    begin = end + 1;
    std::smatch match;
    if (line.find("include") != std::string::npos && std::regex_match(line, match, include)) {
      const std::string path = match[2];
      if (std::none_of(known.begin(), known.end(), [&](const SourceFile& file) { return file.path == path; })) {
        refuse(part, number + 1,
               fmt::format("includes '{}'; a variant may include headers of portable/ and variants/ alone (math:: has exp, log, tanh, ...)",
                           path));
      }
    }
  }
}

}  // namespace

void check_text(const VariantPart& part) { check_includes(part); }

}  // namespace fovea::jit
