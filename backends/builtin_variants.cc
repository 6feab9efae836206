#include "backends/builtin_variants.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <new>
#include <string>
#include <vector>

#include "generated/builtin_variants.h"
#include "src/support/check.h"

namespace fovea {
namespace {

std::vector<std::string> parts_of(std::string_view name) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('+', begin), name.size());
    parts.emplace_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

template <AttentionVariant V>
VariantInfo describe(std::string_view name) {
  return {.name = std::string(name),
          .parts = parts_of(name),
          .mask_fields = V::Mask::fields(),
          .param_fields = V::Params::fields(),
          .use_softmax = V::use_softmax,
          .has_extra_logit = HasExtraLogit<V>,
          .range_of = [](const void* mask) { return static_cast<const typename V::Mask*>(mask)->range(); },
          .init_mask = [](void* mask) { new (mask) typename V::Mask{}; },
          .init_params = [](void* params) { new (params) typename V::Params{}; }};
}

}  // namespace

std::span<const VariantInfo> builtin_variants() {
#define FOVEA_UNPARENTHESISED(...) __VA_ARGS__
#define FOVEA_BUILTIN_VARIANT(name, Type) describe<FOVEA_UNPARENTHESISED Type>(name),
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
