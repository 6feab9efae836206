#include "src/jit/compile_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace fovea::jit {
namespace {

/// Numbers ptxas gives to what slows wgmma down. Others of the range are about what it does well.
constexpr std::string_view kSlowNotes[] = {"(C7511)", "(C7512)", "(C7513)", "(C7515)", "(C7517)"};

int number_before(std::string_view text, std::string_view unit) {
  const std::size_t at = text.find(unit);
  if (at == std::string_view::npos) {
    return 0;
  }
  std::size_t begin = at;
  while (begin > 0 && text[begin - 1] >= '0' && text[begin - 1] <= '9') {
    --begin;
  }
  int number = 0;
  std::from_chars(text.data() + begin, text.data() + at, number);
  return number;
}

}  // namespace

std::string CompileReport::complaints() const {
  std::string text = spilled_bytes > 0 ? fmt::format("spills {} bytes of registers", spilled_bytes) : "";
  for (const std::string& note : slow) {
    text += fmt::format("{}{}", text.empty() ? "" : "; ", note);
  }
  return text;
}

CompileReport read_compile_log(std::string_view log) {
  CompileReport report;
  for (std::size_t begin = 0; begin < log.size();) {
    const std::size_t end = std::min(log.find('\n', begin), log.size());
    const std::string_view line = log.substr(begin, end - begin);
    begin = end + 1;
    report.registers = std::max(report.registers, number_before(line, " registers"));
    report.spilled_bytes += number_before(line, " bytes spill stores") + number_before(line, " bytes spill loads");
    const bool slow = std::any_of(std::begin(kSlowNotes), std::end(kSlowNotes),
                                  [&](std::string_view note) { return line.find(note) != std::string_view::npos; });
    if (slow) {
      report.slow.emplace_back(line);
    } else if (line.find("warning") != std::string_view::npos) {
      report.warnings.emplace_back(line);
    }
  }
  return report;
}

}  // namespace fovea::jit
