#include "fovea/variant.h"

#include <algorithm>
#include <filesystem>

#include "src/support/check.h"
#include "src/support/file.h"

namespace fovea {

Variant Variant::from_source(std::string_view name, std::string_view text, std::string_view file) {
  Variant variant(name);
  variant.sources.push_back(
      {.name = std::string(name), .text = std::string(text), .file = file.empty() ? fmt::format("{}.h", name) : std::string(file)});
  return variant;
}

Variant Variant::from_file(const std::string& path) {
  std::optional<std::string> text = read_file(path);
  FOVEA_CHECK(text.has_value(), "Variant::from_file: '{}' can't be read", path);
  return from_source(std::filesystem::path(path).stem().string(), *text, path);
}

std::vector<std::string> Variant::parts() const {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('+', begin), name.size());
    names.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

Variant operator+(const Variant& first, const Variant& second) {
  Variant both = first;
  both.name += '+' + second.name;
  for (const VariantSource& source : second.sources) {
    if (std::find(both.sources.begin(), both.sources.end(), source) == both.sources.end()) {
      both.sources.push_back(source);
    }
  }
  return both;
}

}  // namespace fovea
