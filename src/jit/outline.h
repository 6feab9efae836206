// The outline of a variant's text: its structs, their functions and fields, with lines. A rough reading (no templates, no macros but
// ours); what it can't follow it leaves out, and the compiler has the last word.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fovea::jit {

/// A function or a constant.
struct OutlinedMember {
  std::string name;
  int line = 0;
};

struct OutlinedField {
  std::string name;
  int line = 0;
  bool has_default = false;
};

struct OutlinedStruct {
  std::string name;   // "MyCap"
  std::string owner;  // the struct it is in, or ""
  int line = 0;
  std::vector<OutlinedMember> functions;
  std::vector<OutlinedMember> constants;  // static, with a value
  std::vector<OutlinedField> fields;
  bool lists_fields = false;        // FOVEA_FIELDS is there
  std::vector<std::string> listed;  // every name in it
};

struct Outline {
  std::vector<OutlinedStruct> structs;
  std::vector<std::string> words;  // every identifier, each time it occurs

  const OutlinedStruct* find(std::string_view name, std::string_view owner) const;
  int count(std::string_view word) const;
};

Outline outline_of(std::string_view text);

}  // namespace fovea::jit
