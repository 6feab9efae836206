// Built-in variants as a caller's text.
#pragma once

#include <regex>
#include <string>

#include "src/backend.h"
#include "src/jit/embedded.h"
#include "src/jit/program.h"

namespace fovea::test {

/// variants/soft_cap.h as a user's text: struct MySoftCap, named my_soft_cap.
inline VariantSource twin_of(const std::string& builtin) {
  const std::string path = "variants/" + builtin + ".h";
  for (const jit::SourceFile& file : jit::embedded_sources()) {
    if (file.path == path) {
      const std::string type = jit::pascal_case(builtin);
      return {.name = "my_" + builtin,
              .text = std::regex_replace(std::string(file.text), std::regex("\\b" + type + "\\b"), "My" + type),
              .file = path};
    }
  }
  return {};
}

/// "causal+soft_cap" as my_causal+my_soft_cap.
inline Variant twin_of(const VariantInfo& builtin) {
  Variant twin;
  twin.name.clear();
  for (const std::string& part : builtin.parts) {
    twin.sources.push_back(twin_of(part));
    twin.name += (twin.name.empty() ? "" : "+") + twin.sources.back().name;
  }
  return twin;
}

}  // namespace fovea::test
