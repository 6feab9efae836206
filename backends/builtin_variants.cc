#include "backends/builtin_variants.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "generated/builtin_variants.h"
#include "src/support/check.h"

namespace fovea {
VariantInfo variant_info(std::string_view name, const VariantShape& shape) { return {shape, std::string(name), Variant(name).parts()}; }

std::span<const VariantInfo> builtin_variants() {
#define FOVEA_UNPARENTHESISED(...) __VA_ARGS__
#define FOVEA_BUILTIN_VARIANT(name, Type) variant_info(name, kVariantShapeOf<FOVEA_UNPARENTHESISED Type>),
  static const std::vector<VariantInfo> variants = {
#include "generated/builtin_variants.inc"
  };
#undef FOVEA_BUILTIN_VARIANT
#undef FOVEA_UNPARENTHESISED
  return variants;
}

const VariantInfo& builtin_variant(std::string_view name) {
  std::vector<std::string_view> known;
  for (const VariantInfo& variant : builtin_variants()) {
    if (variant.name == name) {
      return variant;
    }
    known.push_back(variant.name);
  }
  throw InvalidArgument(fmt::format("prepare: no variant is named '{}'; known: {}", name, fmt::join(known, ", ")));
}

}  // namespace fovea
