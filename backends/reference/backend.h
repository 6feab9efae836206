// The reference backend: the specification as code, in double precision, without tiles, work items or threads. Every other backend is
// tested against it. Its run() allocates; nothing else about it is an exception.
#pragma once

#include <memory>

#include "src/backend.h"

namespace fovea {

std::unique_ptr<Backend> make_reference_backend();

namespace reference {

using Attend = void (*)(const KernelParams& params);

/// The attention of one built-in variant; throws InvalidArgument for an unknown name.
Attend attention_of(std::string_view variant_name);

void merge_states(const MergeStatesParams& params);
void append_kv(const AppendParams& params);

}  // namespace reference
}  // namespace fovea
