// The explicit list of backends. Adding one adds a line here.
#include <string>
#include <string_view>

#include "backends/cpu/backend.h"
#include "backends/reference/backend.h"
#include "src/backend.h"
#include "src/support/check.h"

namespace fovea {
namespace {

struct Entry {
  std::string_view name;
  std::unique_ptr<Backend> (*make)(const EngineOptions& options);
};

constexpr Entry kBackends[] = {
    {"cpu", [](const EngineOptions& options) { return make_cpu_backend(options); }},
    {"reference", [](const EngineOptions&) { return make_reference_backend(); }},
};

}  // namespace

std::unique_ptr<Backend> make_backend(const EngineOptions& options) {
  std::string known;
  for (const Entry& entry : kBackends) {
    if (entry.name == options.backend) {
      return entry.make(options);
    }
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  throw InvalidArgument(fmt::format("engine: no backend is named '{}'; known: {}", options.backend, known));
}

}  // namespace fovea
