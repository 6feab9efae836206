#include "src/jit/explain_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <regex>
#include <sstream>
#include <vector>

#include "src/jit/outline.h"

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
      {std::regex(R"(Tri'?"?,? .*\bbool\b|'bool' and then '(fovea::)?Tri')"),
       "`keep` is asked about whole tiles too, where a comparison is both true and false: write &, |, ! and select() instead of if and ?:, "
       "or take `const Position<>& at`, and be asked about pairs alone"},
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

/// Lines of the caller's that declare `name`: a struct, a hook or a constant.
std::vector<Place> declarations_of(const Program& program, const std::string& name) {
  std::vector<Place> places;
  for (const Program::Header& header : program.headers) {
    const std::string file = header.text.substr(0, header.text.find('\n'));  // #line 1 "file"
    const auto add = [&](const std::string& declared, int line) {
      if (declared == name) {
        places.push_back({file.substr(9, file.size() - 10), std::to_string(line - 1)});
      }
    };
    for (const OutlinedStruct& in : outline_of(header.text).structs) {
      add(in.name, in.line);
      for (const std::vector<OutlinedMember>* members : {&in.functions, &in.constants}) {
        std::for_each(members->begin(), members->end(), [&](const OutlinedMember& member) { add(member.name, member.line); });
      }
    }
  }
  return places;
}

/// What a sentence of ours is about, where it is clear: the first thing it names that the caller's text declares, once.
std::optional<Place> subject_of(const Program& program, const std::string& sentence) {
  static const std::regex word(R"([A-Za-z_]\w*)");
  for (std::sregex_iterator it(sentence.begin(), sentence.end(), word), end; it != end; ++it) {
    const std::vector<Place> places = declarations_of(program, it->str());
    if (!places.empty()) {
      return places.size() == 1 ? std::optional(places[0]) : std::nullopt;
    }
  }
  return std::nullopt;
}

/// The sentence of a static assertion that failed, or nothing: "static assertion failed: it", or clang's, with the requirement before it.
std::optional<std::string> sentence_in(const std::string& error) {
  static const std::regex assertion(R"re(static(?:_assert|\s+assertion) failed(?: due to requirement '.*')?:?\s*(?:with\s*)?"?(.*?)"?$)re");
  std::smatch match;
  return std::regex_search(error, match, assertion) ? std::optional<std::string>(match[1]) : std::nullopt;
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
    const std::optional<std::string> sentence = sentence_in(message.text);
    const std::optional<Place> led_there = message.users || !sentence ? message.users : subject_of(program, *sentence);
    if (!users && i > 0 && is_users(program, messages[i - 1].place.file)) {
      break;  // the library's templates echo what is wrong in the caller's lines
    }
    text += text.empty() ? "" : "\n";
    if (users || !led_there) {
      text += fmt::format("    {}({}): error: {}", message.place.file, message.place.line, message.text);
    } else {
      text += fmt::format("    {}({}): error: {} (seen by {}({}))", led_there->file, led_there->line, sentence.value_or(message.text),
                          message.place.file, message.place.line);
    }
    for (const Advice& advice : advices()) {
      if (hint.empty() && std::regex_search(message.text, advice.pattern)) {
        hint = advice.text;
      }
    }
    // A sentence of ours says it all; what follows are its echoes.
    if (sentence) {
      break;
    }
  }
  return hint.empty() ? text : fmt::format("{}\n  hint: {}", text, hint);
}

}  // namespace fovea::jit
