// The instruction sets compiled in, and the choice among them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backends/cpu/kernels/attention_simd/kernel.h"

namespace fovea::cpu {

/// The code for `name`, or for the fastest set this machine runs when `name` is empty. Throws InvalidArgument for an unknown name,
/// Unsupported for one that this machine or its operating system lacks.
const IsaCode& choose_isa(std::string_view name);

/// The processor's own name, for bug reports.
std::string processor_name();

/// The flags that built-in variants are compiled with for an instruction set; its namespace among them.
std::vector<std::string> variant_flags(std::string_view isa);

/// Throws InternalError when the variant isn't compiled in.
const VariantCode& variant_code(const IsaCode& isa, std::string_view variant);

}  // namespace fovea::cpu
