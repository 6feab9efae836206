// Checks page ids against a cache: exactly the entries that runs of a plan read, no others (engines free the rest of a table).
#pragma once

#include <cstdint>
#include <string_view>

#include "portable/params.h"

namespace fovea {

/// Throws InvalidArgument naming the first id outside [0, num_pages[format]) that a run with `params` would read. Host-accessible plans
/// alone.
void check_page_ids(std::string_view where, const KernelParams& params, const std::int64_t* num_pages);

}  // namespace fovea
