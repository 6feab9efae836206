#include "src/support/env.h"

#include <cstdlib>
#include <string_view>

namespace fovea {

namespace {

constexpr EnvironmentVariable kVariables[] = {
    {"FOVEA_CHECK_RUNS", "1: every run() first checks the page ids it will read; costs a pass over the page tables"},
};

bool is_on(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && std::string_view(value) != "" && std::string_view(value) != "0";
}

}  // namespace

std::span<const EnvironmentVariable> environment_variables() { return kVariables; }

bool check_runs_enabled() {
  static const bool enabled = is_on("FOVEA_CHECK_RUNS");
  return enabled;
}

}  // namespace fovea
