// The explicit list of backends. Adding one adds a line here.
#include <string>
#include <string_view>

#include "backends/cpu/backend.h"
#ifdef FOVEA_HAS_CUDA
#include "backends/cuda/backend.h"
#endif
#include "backends/reference/backend.h"
#include "fovea/compile.h"
#include "src/backend.h"
#include "src/support/check.h"

namespace fovea {
namespace {

constexpr std::int32_t kMaxThreads = 4096;

struct Entry {
  std::string_view name;
  std::unique_ptr<Backend> (*make)(const EngineOptions& options);
};

constexpr Entry kBackends[] = {
    {"cpu", [](const EngineOptions& options) { return make_cpu_backend(options); }},
#ifdef FOVEA_HAS_CUDA
    {"cuda", [](const EngineOptions& options) { return make_cuda_backend(options); }},
#endif
    {"reference", [](const EngineOptions&) { return make_reference_backend(); }},
};

std::vector<CompiledKernel> compile_for([[maybe_unused]] std::string_view architecture, [[maybe_unused]] const AttentionSpec& spec,
                                        [[maybe_unused]] bool anew) {
#ifdef FOVEA_HAS_CUDA
  return compile_for_gpu(architecture, spec, anew);
#else
  throw Unsupported("compile: this library was built without the cuda backend (CMake's FOVEA_CUDA)");
#endif
}

}  // namespace

std::vector<CompiledKernel> compile_ahead(std::string_view architecture, const AttentionSpec& spec) {
  return compile_for(architecture, spec, false);
}
std::vector<CompiledKernel> compile_anew(std::string_view architecture, const AttentionSpec& spec) {
  return compile_for(architecture, spec, true);
}

std::unique_ptr<Backend> make_backend(const EngineOptions& options) {
  FOVEA_CHECK(0 <= options.num_threads && options.num_threads <= kMaxThreads,
              "engine: num_threads = {}; it must be 1 to {}, or 0: all the process may use", options.num_threads, kMaxThreads);
  FOVEA_CHECK(options.isa.empty() || options.backend == "cpu", "engine: isa = '{}' but the backend is {}; instruction sets are the cpu's",
              options.isa, options.backend);
  std::string known;
  for (const Entry& entry : kBackends) {
    if (entry.name == options.backend) {
      FOVEA_CHECK(options.device_id == 0 || entry.name == "cuda", "engine: device_id = {} but the backend is {}; only GPUs are counted",
                  options.device_id, entry.name);
      return entry.make(options);
    }
    known += known.empty() ? "" : ", ";
    known += entry.name;
  }
  throw InvalidArgument(fmt::format("engine: no backend is named '{}'; known: {}", options.backend, known));
}

}  // namespace fovea
