#include "src/jit/outline.h"

#include <algorithm>
#include <cctype>

namespace fovea::jit {
namespace {

struct Token {
  std::string text;  // an identifier or number, or one character
  int line;
  bool is_word() const { return std::isalpha(static_cast<unsigned char>(text[0])) != 0 || text[0] == '_'; }
};

bool in_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// Words and characters, without comments, literals and preprocessor lines.
std::vector<Token> tokens_of(std::string_view text) {
  std::vector<Token> tokens;
  int line = 1;
  bool line_begins = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') {
      ++line;
      line_begins = true;
    } else if (text.compare(i, 2, "//") == 0 || (c == '#' && line_begins)) {
      const bool directive = c == '#';
      while (i + 1 < text.size() && (text[i + 1] != '\n' || (directive && text[i] == '\\'))) {
        line += text[++i] == '\n' ? 1 : 0;
      }
    } else if (text.compare(i, 2, "/*") == 0) {
      const std::size_t end = std::min(text.find("*/", i + 2), text.size());
      line += static_cast<int>(
          std::count(text.begin() + static_cast<std::ptrdiff_t>(i), text.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
      i = end + 1;
    } else if (c == '"' || (c == '\'' && !(i > 0 && std::isdigit(static_cast<unsigned char>(text[i - 1])) != 0))) {
      for (++i; i < text.size() && text[i] != c && text[i] != '\n'; ++i) {
        i += text[i] == '\\' ? 1 : 0;
      }
    } else if (in_word(c)) {
      std::size_t end = i + 1;
      while (end < text.size() && in_word(text[end])) {
        ++end;
      }
      tokens.push_back({std::string(text.substr(i, end - i)), line});
      i = end - 1;
      line_begins = false;
    } else if (std::isspace(static_cast<unsigned char>(c)) == 0) {
      tokens.push_back({std::string(1, c), line});
      line_begins = false;
    }
  }
  return tokens;
}

/// Index after the token that closes tokens[open], or the end.
std::size_t after_matching(const std::vector<Token>& tokens, std::size_t open, char opening, char closing) {
  int depth = 0;
  for (std::size_t i = open; i < tokens.size(); ++i) {
    depth += tokens[i].text[0] == opening ? 1 : tokens[i].text[0] == closing ? -1 : 0;
    if (depth == 0) {
      return i + 1;
    }
  }
  return tokens.size();
}

class Reader {
 public:
  explicit Reader(std::string_view text) : tokens_(tokens_of(text)) {
    for (const Token& token : tokens_) {
      if (token.is_word()) {
        outline_.words.push_back(token.text);
      }
    }
  }

  Outline read() {
    read_scope(0, "", static_cast<std::size_t>(-1));
    return std::move(outline_);
  }

 private:
  /// Declarations from `i` to the brace that closes this scope; returns the index after it. `self`: this struct, or -1: a namespace.
  std::size_t read_scope(std::size_t i, const std::string& name, std::size_t self) {
    std::vector<Token> head;  // of the declaration being read, without template and requires clauses
    while (i < tokens_.size()) {
      const Token& token = tokens_[i];
      const bool calls = i + 1 < tokens_.size() && tokens_[i + 1].text == "(";
      if (token.text == "}") {
        return i + 1;
      }
      if (token.text == "template" && i + 1 < tokens_.size() && tokens_[i + 1].text == "<") {
        i = after_matching(tokens_, i + 1, '<', '>');
      } else if (token.text == "FOVEA_FIELDS" && calls) {
        const std::size_t end = after_matching(tokens_, i + 1, '(', ')');
        list_fields(i + 1, end, self);
        i = end;
      } else if ((token.text == "requires" || token.text == "__attribute__" || token.text == "alignas") && calls) {
        i = after_matching(tokens_, i + 1, '(', ')');
      } else if (token.text == ";") {
        end_declaration(head, self);
        head.clear();
        ++i;
      } else if (token.text == "{") {
        i = read_body(i, head, name, self);
      } else {
        head.push_back(token);
        ++i;
      }
    }
    return i;
  }

  /// What a '{' opens. Clears `head` unless the declaration goes on (an initialiser).
  std::size_t read_body(std::size_t i, std::vector<Token>& head, const std::string& name, std::size_t self) {
    const auto has = [&](const char* word) {
      return std::any_of(head.begin(), head.end(), [&](const Token& t) { return t.text == word; });
    };
    const auto paren = std::find_if(head.begin(), head.end(), [](const Token& t) { return t.text == "("; });
    if (has("namespace")) {
      head.clear();
      return read_scope(i + 1, name, self);
    }
    const auto keyword = std::find_if(head.begin(), paren, [](const Token& t) { return t.text == "struct" || t.text == "class"; });
    if (keyword != paren && keyword + 1 != head.end() && paren == head.end()) {
      const Token declared = *(keyword + 1);
      outline_.structs.push_back(
          {.name = declared.text, .owner = name, .line = declared.line, .functions = {}, .constants = {}, .fields = {}, .listed = {}});
      head.clear();
      return read_scope(i + 1, declared.text, outline_.structs.size() - 1);
    }
    if (paren != head.end() && paren != head.begin()) {
      if (self != static_cast<std::size_t>(-1) && (paren - 1)->is_word()) {
        outline_.structs[self].functions.push_back({.name = (paren - 1)->text, .line = (paren - 1)->line});
      }
      head.clear();
    } else {
      head.push_back({"=", tokens_[i].line});  // an initialiser in braces
    }
    return after_matching(tokens_, i, '{', '}');
  }

  void list_fields(std::size_t begin, std::size_t end, std::size_t self) {
    if (self == static_cast<std::size_t>(-1)) {
      return;
    }
    outline_.structs[self].lists_fields = true;
    for (std::size_t i = begin; i < end; ++i) {
      if (tokens_[i].is_word()) {
        outline_.structs[self].listed.push_back(tokens_[i].text);
      }
    }
  }

  /// `int32_t window_left`, `float a, b = 1`: fields; `static constexpr bool b = true`: a constant. Functions without a body and aliases
  /// are neither.
  void end_declaration(const std::vector<Token>& head, std::size_t self) {
    const auto value = std::find_if(head.begin(), head.end(), [](const Token& t) { return t.text == "="; });
    if (self != static_cast<std::size_t>(-1) && !head.empty() && head[0].text == "static" && value != head.end()) {
      outline_.structs[self].constants.push_back({.name = (value - 1)->text, .line = (value - 1)->line});
      return;
    }
    const bool other = std::any_of(head.begin(), head.end(), [](const Token& t) {
      return t.text == "(" || t.text == "static" || t.text == "using" || t.text == "typedef" || t.text == "friend" || t.text == "struct";
    });
    if (self == static_cast<std::size_t>(-1) || other || head.size() < 2) {
      return;
    }
    int depth = 0;
    bool after_value = false;
    for (std::size_t i = 1; i < head.size(); ++i) {
      const std::string& text = head[i].text;
      depth += text == "<" || text == "[" ? 1 : text == ">" || text == "]" ? -1 : 0;
      const std::string next = i + 1 < head.size() ? head[i + 1].text : ";";
      if (text == "," && depth == 0) {
        after_value = false;
      } else if (text == "=") {
        after_value = true;
      } else if (depth == 0 && !after_value && head[i].is_word() && (next == ";" || next == "," || next == "=" || next == "[")) {
        outline_.structs[self].fields.push_back({.name = text, .line = head[i].line, .has_default = next == "="});
      }
    }
  }

  std::vector<Token> tokens_;
  Outline outline_;
};

}  // namespace

const OutlinedStruct* Outline::find(std::string_view name, std::string_view owner) const {
  for (const OutlinedStruct& candidate : structs) {
    if (candidate.name == name && candidate.owner == owner) {
      return &candidate;
    }
  }
  return nullptr;
}

int Outline::count(std::string_view word) const { return static_cast<int>(std::count(words.begin(), words.end(), word)); }

Outline outline_of(std::string_view text) { return Reader(text).read(); }

}  // namespace fovea::jit
