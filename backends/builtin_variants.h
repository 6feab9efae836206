// The variants compiled into the library (variants/*.h and variants/compositions.txt), as the host sees them. Used by every backend on the
// host.
#pragma once

#include <span>
#include <string_view>

#include "src/backend.h"

namespace fovea {

/// A shape with its names: "causal+soft_cap" has two parts.
VariantInfo variant_info(std::string_view name, const VariantShape& shape);

/// In the order of the generated list.
std::span<const VariantInfo> builtin_variants();

/// Throws InvalidArgument with the known names.
const VariantInfo& builtin_variant(std::string_view name);

}  // namespace fovea
