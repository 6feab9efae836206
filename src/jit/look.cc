#include "src/jit/look.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <regex>

#include "portable/check_hooks.h"
#include "src/jit/outline.h"
#include "src/support/check.h"
#include "src/support/spelling.h"

namespace fovea::jit {
namespace {

/// The names of portable/variant.h that kernels call.
#define FOVEA_HOOK_TEXT(hook) #hook,
const std::vector<std::string> kVariantHooks = {FOVEA_HOOKS(FOVEA_HOOK_TEXT) "num_paired"};
#undef FOVEA_HOOK_TEXT
const std::vector<std::string> kMaskHooks = {"keep", "range"};
/// Constants that the library reads; one misspelt would leave the default, without a word.
const std::vector<std::string> kVariantConstants = {"use_softmax", "pairing"};
const std::vector<std::string> kMaskConstants = {"exact_on_tiles", "keeps_all"};
const std::vector<std::string> kParameterStructs = {"Mask", "Params"};

[[noreturn]] void refuse(const VariantPart& part, int line, const std::string& what) {
  throw CompileFailed(fmt::format("compile: variant '{}'\n    {}({}): error: {}", part.name, part.file, line, what));
}

/// What a text includes is part of what it means: only the library's own headers, which it brings along everywhere.
void check_includes(const VariantPart& part) {
  static const std::regex include(R"(^\s*#\s*include\s*([<"])([^>"]*)[>"].*)");
  const std::span<const SourceFile> known = embedded_sources();
  int number = 1;
  for (std::size_t begin = 0; begin < part.text.size(); ++number) {
    const std::size_t end = std::min(part.text.find('\n', begin), part.text.size());
    const std::string line = part.text.substr(begin, end - begin);
    begin = end + 1;
    std::smatch match;
    if (line.find("include") == std::string::npos || !std::regex_match(line, match, include)) {
      continue;
    }
    const std::string path = match[2];
    if (std::none_of(known.begin(), known.end(), [&](const SourceFile& file) { return file.path == path; })) {
      refuse(part, number,
             fmt::format("includes '{}'; a variant may include headers of portable/ and variants/ alone (math:: has exp, log, tanh, ...)",
                         path));
    }
  }
}

bool is_one_of(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// A function that is no hook and that nothing calls does nothing: a hook misspelt, or in the wrong struct.
void check_functions(const VariantPart& part, const Outline& outline, const OutlinedStruct& in, const std::vector<std::string>& hooks,
                     const std::vector<std::string>& hooks_elsewhere, const std::string& elsewhere) {
  for (const OutlinedMember& function : in.functions) {
    if (is_one_of(hooks_elsewhere, function.name)) {
      refuse(part, function.line,
             fmt::format("{} is in struct {}, where nothing calls it; it is a member of {}", function.name, in.name, elsewhere));
    }
    if (!is_one_of(hooks, function.name) && outline.count(function.name) == 1) {
      const std::string closest = closest_name(function.name, hooks);
      refuse(part, function.line,
             fmt::format("'{}' is no hook and nothing calls it{}; hooks here: {}", function.name,
                         closest.empty() ? "" : fmt::format(", did you mean {}?", closest), fmt::join(hooks, ", ")));
    }
  }
}

void check_constants(const VariantPart& part, const Outline& outline, const OutlinedStruct& in, const std::vector<std::string>& known) {
  for (const OutlinedMember& constant : in.constants) {
    const std::string closest = is_one_of(known, constant.name) ? "" : closest_name(constant.name, known);
    if (!closest.empty() && outline.count(constant.name) == 1) {
      refuse(part, constant.line, fmt::format("nothing reads '{}', did you mean {}?", constant.name, closest));
    }
  }
}

/// A struct of the variant that has what Mask or Params has, under another name.
void check_structs(const VariantPart& part, const Outline& outline) {
  for (const OutlinedStruct& in : outline.structs) {
    const std::string closest = in.owner == part.type && in.lists_fields ? closest_name(in.name, kParameterStructs) : "";
    if (!closest.empty() && closest != in.name && outline.find(closest, part.type) == nullptr) {
      refuse(part, in.line, fmt::format("nothing reads struct {}, did you mean {}?", in.name, closest));
    }
  }
}

/// A Mask that inherits range() has another mask's, and tiles that this one would not keep are full.
void check_range(const VariantPart& part, const Outline& outline, const OutlinedStruct& mask) {
  const bool keeps = std::any_of(mask.functions.begin(), mask.functions.end(), [](const OutlinedMember& f) { return f.name == "keep"; });
  if (keeps && outline.count("range") == 0) {
    refuse(part, mask.line,
           "struct Mask must have range(), a KvRange that holds all that keep keeps; "
           "`FOVEA_FN constexpr KvRange range() const { return {}; }` holds everything");
  }
}

void check_fields(const VariantPart& part, const OutlinedStruct& in) {
  if (!in.lists_fields) {
    refuse(part, in.line,
           fmt::format("struct {0} does not list its fields; end it with FOVEA_FIELDS({0}, FOVEA_REQUIRED(name), FOVEA_OPTIONAL(name)), "
                       "or FOVEA_FIELDS({0}) when it has none",
                       in.name));
  }
  for (const OutlinedField& field : in.fields) {
    if (!field.has_default && !is_one_of(in.listed, field.name)) {
      refuse(part, field.line,
             fmt::format("field '{}' has no default and is not in FOVEA_FIELDS, so nobody can give it a value", field.name));
    }
  }
}

}  // namespace

void check_text(const VariantPart& part) {
  check_includes(part);
  const Outline outline = outline_of(part.text);
  const OutlinedStruct* variant = outline.find(part.type, "");
  if (variant == nullptr) {
    std::vector<std::string> found;
    for (const OutlinedStruct& candidate : outline.structs) {
      if (candidate.owner.empty()) {
        found.push_back(candidate.name);
      }
    }
    refuse(part, 1,
           fmt::format("no struct {} is defined here; the variant named {} is a struct of that name{}", part.type, part.name,
                       found.empty() ? "" : fmt::format(" (found: {})", fmt::join(found, ", "))));
  }
  check_structs(part, outline);
  check_constants(part, outline, *variant, kVariantConstants);
  check_functions(part, outline, *variant, kVariantHooks, kMaskHooks, "struct Mask, because a plan needs it and has no Params");
  for (const std::string& name : kParameterStructs) {
    if (const OutlinedStruct* in = outline.find(name, part.type)) {
      const bool mask = in->name == "Mask";
      check_fields(part, *in);
      check_constants(part, outline, *in, mask ? kMaskConstants : std::vector<std::string>{});
      check_functions(part, outline, *in, mask ? kMaskHooks : std::vector<std::string>{}, kVariantHooks, "struct " + part.type);
      if (mask) {
        check_range(part, outline, *in);
      }
    }
  }
}

}  // namespace fovea::jit
