// The reference backend: the specification as code, in double precision, without tiles, work items or threads. Every other backend is
// tested against it. Its run() allocates; nothing else about it is an exception.
#pragma once

#include <memory>

#include "backends/reference/device/hooks.h"
#include "src/backend.h"

namespace fovea {

std::unique_ptr<Backend> make_reference_backend();

namespace reference {

/// The attention of one variant.
void attend(const KernelParams& params, const Hooks& variant);

/// Throws InternalError when the variant isn't built in.
const Hooks& builtin_hooks(std::string_view variant_name);

void merge_states(const MergeStatesParams& params);
void append_kv(const AppendParams& params);

}  // namespace reference
}  // namespace fovea
