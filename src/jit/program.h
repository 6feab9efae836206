// What is compiled at run time: a variant's parts resolved to headers and C++ types, and the generated source, about ten lines that
// instantiate a template. Common to all backends; a backend adds its first include and its last lines.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/variant.h"
#include "portable/config.h"
#include "src/jit/digest.h"
#include "src/jit/embedded.h"

namespace fovea::jit {

struct VariantPart {
  std::string name;     // "my_cap"
  std::string type;     // "fovea::Causal" for a built-in; "MyCap", found at global scope, for a user's
  std::string header;   // "variants/causal.h", "user/my_cap.h"
  bool builtin = true;  // false: the text is the caller's
  std::string text;     // of a user's part, as the caller gave it
  std::string file;     // what its compile errors name
};

/// A variant as C++.
struct VariantProgram {
  std::string name;  // "causal+my_cap"
  std::string type;  // "fovea::Compose<fovea::Causal, MyCap>"
  std::vector<VariantPart> parts;
};

/// Throws InvalidArgument: unknown or repeated parts, names that are no identifiers or those of built-ins, texts that include what the
/// library doesn't bring along, and mistakes that a look at the text finds (src/jit/look.h).
VariantProgram resolve_variant(const Variant& variant);

/// soft_cap -> SoftCap
std::string pascal_case(std::string_view snake);

/// `fovea::KernelConfig{.tile_q = 64, ...}`: a template argument.
std::string to_source(const KernelConfig& config);

/// A translation unit: `source`, what it includes from the caller (`headers`), and what it includes from the library (`embedded`).
struct Program {
  std::string source_name;  // "source.cc", "source.cu"
  std::string source;
  struct Header {
    std::string path;  // "user/my_cap.h"
    std::string text;  // begins with a #line, so that errors name the caller's file
  };
  std::vector<Header> headers;
  std::vector<SourceFile> embedded;
};

struct ProgramRequest {
  const VariantProgram& variant;
  std::string_view target;                     // "cpu avx2", "attention_sm80 sm_90a": a comment on the first line
  std::string_view source_name;                // "source.cc"
  std::span<const std::string_view> includes;  // the backend's: "backends/cpu/device/user_variant.h"
  std::string_view last_lines;                 // after `using Rule = ...;`
  std::span<const std::string_view> folders;   // embedded folders that the includes may reach; "portable/", "variants/" and "fovea/" always
};

/// The text is golden-tested: same request, same bytes.
Program generate_program(const ProgramRequest& request);

/// Names what compiling `program` makes: every text it may read, and everything else that decides the result (compiler, flags, target).
Digest key_of(const Program& program, std::span<const std::string_view> compiler);

}  // namespace fovea::jit
