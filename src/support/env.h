// Every environment variable the library reads, in one table. Read once, when first asked for.
#pragma once

#include <span>

namespace fovea {

struct EnvironmentVariable {
  const char* name;
  const char* meaning;
};

std::span<const EnvironmentVariable> environment_variables();

/// FOVEA_CHECK_RUNS=1: run() checks every page id it is about to read.
bool check_runs_enabled();

}  // namespace fovea
