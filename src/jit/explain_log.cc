#include "src/jit/explain_log.h"

#include <fmt/format.h>

#include <optional>
#include <regex>
#include <sstream>
#include <vector>

namespace fovea::jit {
namespace {

constexpr std::size_t kMaxErrors = 3;     // the rest follow from the first ones, and are in build.log
constexpr std::size_t kMaxLogLines = 12;  // of a log without errors we know

struct Place {
  std::string file;
  std::string line;
};

struct Message {
  Place place;
  std::string text;
  std::optional<Place> users;  // the caller's line that led there
};

/// "file:9:5: error: text" (g++, clang) or "file(9): error: text" (NVRTC).
const std::regex kError(R"(^(.+?)(?::(\d+)(?::\d+)?:|\((\d+)\):)\s*(?:fatal |catastrophic )?error(?:\s*#?[\d-]*D?)?:\s*(.*)$)");
/// Any line that begins with a place: notes, "required from here".
const std::regex kPlace(R"(^\s*(?:In file included from |from )?(.+?)(?::(\d+)|\((\d+)\)).*$)");

struct Advice {
  std::regex pattern;
  const char* text;
};

const std::vector<Advice>& advices() {
  static const std::vector<Advice> list = {
      {std::regex(R"(non-static data member '[^']*\bp'|non-static data member 'p' of|nonstatic member reference)"),
       "a hook of Mask sees the fields of Mask alone, because a plan is made before any run has given Params: move what `keep` reads from "
       "Params into struct Mask"},
      {std::regex(R"('p' was not declared|undeclared identifier 'p'|identifier "p" is undefined)"),
       "hooks read parameters through the member `Params p;`, and Mask has no Params: what `keep` reads is a field of struct Mask"},
      {std::regex(R"('m' was not declared|undeclared identifier 'm'|identifier "m" is undefined)"),
       "hooks read the mask through the member `Mask m;`"},
      {std::regex(R"(FieldTypeOf<)"),
       "a field of Mask or Params is float, int32_t, a Table or Table2D of these, or BitMask: what a caller can give by name"},
      {std::regex(
           R"re('(std|cmath|expf?|tanhf?|logf?|sqrtf?)' (was not|has not)|is not a member of 'std'|in namespace 'std'|undeclared identifier '(std|expf?|tanhf?|logf?|sqrtf?)'|namespace "std" has no member|identifier "(std|expf?|tanhf?|logf?|sqrtf?)" is undefined)re"),
       "a variant is read by GPU compilers too: use math::exp, math::log, math::tanh, min_, max_ instead of the standard library"},
      {std::regex(R"(parse error in template argument list|reference to '\w+' is ambiguous|"\w+" is ambiguous)"),
       "the library has something of that name: give the variant, and its struct, another one"},
      {std::regex(R"(array subscript value '?\d+'? is outside the bounds|cannot refer to element \d+ of array)"),
       "a composition has at most 16 mask fields and 16 params"},
  };
  return list;
}

std::string file_name(std::string file, std::string_view folder) {
  if (file.starts_with(folder)) {
    file.erase(0, folder.size());
  }
  return file;
}

/// Is this the text the caller gave?
bool is_users(const Program& program, const std::string& file) {
  for (const Program::Header& header : program.headers) {
    if (header.text.starts_with(fmt::format("#line 1 \"{}\"\n", file))) {
      return true;
    }
  }
  return false;
}

std::vector<Message> messages_of(const Program& program, std::string_view log, std::string_view folder) {
  std::vector<Message> messages;
  std::istringstream lines{std::string(log)};
  std::optional<Place> before;  // of the caller's, in the lines that lead to the next error
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (line.size() > 2000) {
      line.resize(2000);  // regular expressions recurse
    }
    if (std::regex_match(line, match, kError)) {
      Message message{.place = {file_name(match[1], folder), match[2].matched ? match[2] : match[3]}, .text = match[4], .users = before};
      messages.push_back(std::move(message));
      before.reset();
    } else if (std::regex_match(line, match, kPlace)) {
      Place place{file_name(match[1], folder), match[2].matched ? match[2] : match[3]};
      if (is_users(program, place.file)) {
        if (!messages.empty() && !messages.back().users.has_value() && line.find("note:") != std::string::npos) {
          messages.back().users = place;
        }
        before = std::move(place);
      }
    }
  }
  return messages;
}

}  // namespace

std::string explain_log(const Program& program, std::string_view log, std::string_view folder) {
  const std::vector<Message> messages = messages_of(program, log, folder);
  if (messages.empty()) {
    std::string text;
    std::istringstream lines{std::string(log)};
    std::string line;
    for (std::size_t i = 0; i < kMaxLogLines && std::getline(lines, line); ++i) {
      text += fmt::format("    {}\n", line);
    }
    return text.empty() ? "    the compiler said nothing" : text.substr(0, text.size() - 1);
  }
  std::string text;
  std::string hint;
  for (std::size_t i = 0; i < messages.size() && i < kMaxErrors; ++i) {
    const Message& message = messages[i];
    const bool users = is_users(program, message.place.file);
    if (!users && i > 0 && is_users(program, messages[i - 1].place.file)) {
      break;  // the library's templates echo what is wrong in the caller's lines
    }
    text += text.empty() ? "" : "\n";
    if (users || !message.users.has_value()) {
      text += fmt::format("    {}({}): error: {}", message.place.file, message.place.line, message.text);
    } else {
      text += fmt::format("    {}({}): error: {} (seen by {}({}))", message.users->file, message.users->line, message.text,
                          message.place.file, message.place.line);
    }
    for (const Advice& advice : advices()) {
      if (hint.empty() && std::regex_search(message.text, advice.pattern)) {
        hint = advice.text;
      }
    }
    // A sentence of ours says it all; what follows are its echoes.
    if (message.text.find("static assertion failed") != std::string::npos ||
        message.text.find("static_assert failed") != std::string::npos) {
      break;
    }
  }
  return hint.empty() ? text : fmt::format("{}\n  hint: {}", text, hint);
}

}  // namespace fovea::jit
