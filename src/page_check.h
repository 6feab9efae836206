// Checks page ids against a cache: exactly the entries that runs of a plan read, no others (engines free the rest of a table).
#pragma once

#include <cstdint>
#include <string_view>

#include "src/backend.h"

namespace fovea {

/// Throws InvalidArgument naming the first id outside [0, num_pages[format]) that a run with `params` would read. The plan's arrays are the
/// host's; tables are copied from the backend's device where the host can't reach them.
void check_page_ids(std::string_view where, const Backend& backend, const KernelParams& params, const std::int64_t* num_pages);

}  // namespace fovea
