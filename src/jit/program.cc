#include "src/jit/program.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "src/jit/look.h"
#include "src/support/check.h"
#include "src/support/spelling.h"

namespace fovea::jit {
namespace {

constexpr std::string_view kBuiltinFolder = "variants/";

bool is_embedded(std::string_view path) {
  const std::span<const SourceFile> files = embedded_sources();
  return std::any_of(files.begin(), files.end(), [&](const SourceFile& file) { return file.path == path; });
}

bool is_builtin(std::string_view name) { return is_embedded(fmt::format("{}{}.h", kBuiltinFolder, name)); }

std::vector<std::string> builtin_names() {
  std::vector<std::string> names;
  for (const SourceFile& file : embedded_sources()) {
    if (file.path.starts_with(kBuiltinFolder)) {
      names.emplace_back(file.path.substr(kBuiltinFolder.size(), file.path.size() - kBuiltinFolder.size() - 2));
    }
  }
  return names;
}

bool is_identifier(std::string_view name) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  return !name.empty() && name[0] >= 'a' && name[0] <= 'z' && std::all_of(name.begin(), name.end(), allowed);
}

VariantPart user_part(const VariantSource& source) {
  FOVEA_CHECK(!is_builtin(source.name), "prepare: variant '{}' is given as text but is built in; give it another name", source.name);
  return {.name = source.name,
          .type = pascal_case(source.name),
          .header = fmt::format("user/{}.h", source.name),
          .builtin = false,
          .text = source.text,
          .file = source.file};
}

VariantPart find_part(const Variant& variant, const std::string& name) {
  const VariantSource* found = nullptr;
  for (const VariantSource& source : variant.sources) {
    if (source.name == name) {
      FOVEA_CHECK(found == nullptr, "prepare: variant '{}' has two texts named '{}' ({} and {}); names tell parts apart", variant.name,
                  name, found->file, source.file);
      found = &source;
    }
  }
  if (found != nullptr) {
    return user_part(*found);
  }
  if (!is_builtin(name)) {
    std::vector<std::string> known = builtin_names();
    for (const VariantSource& source : variant.sources) {
      known.push_back(source.name);
    }
    const std::string closest = closest_name(name, known);
    throw InvalidArgument(fmt::format("prepare: {}no variant is named '{}'; known: {}, and the caller's own (Variant::from_source()){}",
                                      name == variant.name ? "" : fmt::format("variant '{}': ", variant.name), name, fmt::join(known, ", "),
                                      closest.empty() ? "" : fmt::format("; did you mean '{}'?", closest)));
  }
  return {.name = name, .type = "fovea::" + pascal_case(name), .header = fmt::format("{}{}.h", kBuiltinFolder, name)};
}

/// A file name as it may stand in a #line.
std::string quoted(std::string_view file) {
  std::string text = "\"";
  for (const char c : file) {
    if (c == '"' || c == '\\') {
      text += '\\';
    }
    text += c == '\n' ? ' ' : c;
  }
  return text + "\"";
}

}  // namespace

std::string pascal_case(std::string_view snake) {
  std::string pascal;
  bool first = true;
  for (const char c : snake) {
    if (c != '_') {
      pascal += first ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    }
    first = c == '_';
  }
  return pascal;
}

VariantProgram resolve_variant(const Variant& variant) {
  VariantProgram program{.name = variant.name};
  std::string types;
  for (const VariantSource& source : variant.sources) {
    FOVEA_CHECK(is_identifier(source.name), "prepare: variant name '{}'; a name is snake_case: a letter a-z, then letters, digits and '_'",
                source.name);
  }
  for (const std::string& name : variant.parts()) {
    VariantPart part = find_part(variant, name);
    const bool repeated =
        std::any_of(program.parts.begin(), program.parts.end(), [&](const VariantPart& other) { return other.name == part.name; });
    FOVEA_CHECK(!repeated, "prepare: variant '{}' has '{}' twice; its parameters could not be told apart", variant.name, name);
    if (!part.builtin) {
      check_text(part);
    }
    types += (types.empty() ? "" : ", ") + part.type;
    program.parts.push_back(std::move(part));
  }
  program.type = program.parts.size() == 1 ? types : "fovea::Compose<" + types + ">";
  return program;
}

std::string to_source(const KernelConfig& config) {
  return fmt::format(
      "fovea::KernelConfig{{.tile_q = {}, .tile_kv = {}, .form = fovea::PlanForm::{}, .cost = {{.fixed = {}, .per_tile = {}, "
      ".per_partial = {}, .least_share = {}}}}}",
      config.tile_q, config.tile_kv, config.form == PlanForm::ranges ? "ranges" : "list", config.cost.fixed, config.cost.per_tile,
      config.cost.per_partial, config.cost.least_share);
}

Program generate_program(const ProgramRequest& request) {
  Program program{.source_name = std::string(request.source_name)};
  std::string& text = program.source;
  text = fmt::format("// fovea: variant {} for {}\n", request.variant.name, request.target);
  for (const std::string_view include : request.includes) {
    text += fmt::format("#include \"{}\"\n", include);
  }
  text += "#include \"portable/compose.h\"\n#include \"portable/variant_shape.h\"\n";
  // What is built in comes first: a user's text may name it without `fovea::`.
  for (const bool builtin : {true, false}) {
    for (const VariantPart& part : request.variant.parts) {
      if (part.builtin == builtin) {
        text += fmt::format("{}#include \"{}\"\n", builtin ? "" : "using namespace fovea;\n", part.header);
      }
      if (!part.builtin && !builtin) {
        program.headers.push_back({.path = part.header, .text = fmt::format("#line 1 {}\n{}\n", quoted(part.file), part.text)});
      }
    }
  }
  std::string types;
  for (const VariantPart& part : request.variant.parts) {
    types += (types.empty() ? "" : ", ") + part.type;
  }
  text += fmt::format("static_assert(fovea::parts_are_whole<{}>());\n", types);
  text += fmt::format("using Rule = {};\n{}\n", request.variant.type, request.last_lines);

  std::vector<std::string_view> folders{"fovea/", "portable/", kBuiltinFolder};
  folders.insert(folders.end(), request.folders.begin(), request.folders.end());
  program.embedded = embedded_sources_under(folders);
  return program;
}

Digest key_of(const Program& program, std::span<const std::string_view> compiler) {
  std::vector<std::string_view> texts{"fovea artefact 1", program.source_name, program.source};
  for (const Program::Header& header : program.headers) {
    texts.push_back(header.path);
    // Without the #line: the same text is the same code wherever its file is, here or on the machine that compiled it ahead.
    texts.push_back(std::string_view(header.text).substr(header.text.find('\n') + 1));
  }
  texts.push_back("library");
  for (const SourceFile& file : program.embedded) {
    texts.push_back(file.path);
    texts.push_back(file.text);
  }
  texts.push_back("compiler");
  texts.insert(texts.end(), compiler.begin(), compiler.end());
  return digest_of(texts);
}

std::vector<SourceFile> embedded_sources_under(std::span<const std::string_view> folders) {
  std::vector<SourceFile> files;
  for (const SourceFile& file : embedded_sources()) {
    if (std::any_of(folders.begin(), folders.end(), [&](std::string_view folder) { return file.path.starts_with(folder); })) {
      files.push_back(file);
    }
  }
  return files;
}

}  // namespace fovea::jit
