// Every environment variable of ours that the library reads, in one table.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace fovea {

struct EnvironmentVariable {
  const char* name;
  const char* meaning;
};

std::span<const EnvironmentVariable> environment_variables();

/// FOVEA_CHECK_RUNS=1: run() checks every page id it is about to read. Read once.
bool check_runs_enabled();

/// Not FOVEA_LOG=0. Read every time: lines are rare.
bool log_enabled();

/// Of any variable; nothing when it isn't set.
std::optional<std::string> text_of_variable(const char* name);

}  // namespace fovea
