#include "src/support/env.h"

#include <cstdlib>
#include <string_view>

namespace fovea {

namespace {

constexpr EnvironmentVariable kVariables[] = {
    {"FOVEA_CACHE_DIR",
     "folder that keeps what is compiled at run time (default $XDG_CACHE_HOME/fovea or ~/.cache/fovea); empty: keep nothing"},
    {"FOVEA_CHECK_RUNS",
     "1: every run() first checks where its tensors are and the page ids it will read; costs a pass over the page tables"},
    {"FOVEA_COSTS",
     "costs that planners on GPUs reckon with instead of those built in: kernel:fixed,per_tile,per_partial,least_share in 1/16 tile"},
    {"FOVEA_CXX", "C++ compiler for variants given as text, before CXX, c++, g++ and clang++"},
    {"FOVEA_NVRTC_PATH", "NVRTC for the cuda backend, library or folder; before those in Python packages and toolkits"},
    {"FOVEA_LOG", "0: no lines on stderr about compilations, fallbacks and damaged caches"},
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

bool log_enabled() {
  const char* value = std::getenv("FOVEA_LOG");
  return value == nullptr || std::string_view(value) != "0";
}

std::optional<std::string> text_of_variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

}  // namespace fovea
