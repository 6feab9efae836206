#include "backends/cuda/compiler.h"

#include <chrono>

#include "backends/cuda/shipped.h"
#include "src/jit/build.h"
#include "src/jit/compile_log.h"
#include "src/support/check.h"
#include "src/support/env.h"
#include "src/support/log.h"

namespace fovea::cuda {
namespace {

std::optional<std::string> variable(const char* name) { return text_of_variable(name); }

constexpr std::string_view kMadeBy = "made by ";  // first line of a kept log

/// Spilled registers and warnings of the compiler cost speed, never a result.
void log_report(const CompileRequest& request, const jit::Artefact& artefact) {
  const jit::CompileReport report = jit::read_compile_log(artefact.log);
  if (!report.clean() && !request.tolerates_spills) {
    log_once(fmt::format("{}: it is slower than it could be: {}", request.label, report.complaints()));
  }
  for (const std::string& warning : report.warnings) {
    log_once(fmt::format("{}: {}", request.label, warning));
  }
}

}  // namespace

std::string maker_of(const jit::Artefact& artefact) {
  const std::string line = artefact.log.substr(0, artefact.log.find('\n'));
  return line.starts_with(kMadeBy) ? line.substr(kMadeBy.size()) : "NVRTC";
}

std::vector<std::string> options_of(const CompileRequest& request, std::string_view architecture) {
  // -default-device: plain constexpr functions (fovea/dtype.h, the field lists) are device functions as well. -v: registers and spills.
  std::vector<std::string> options{"--std=c++20", "-default-device", "--display-error-number", "--ptxas-options=-v",
                                   fmt::format("--gpu-architecture={}", architecture)};
  if (!request.exact_division) {
    options.emplace_back("--prec-div=false");
  }
  return options;
}

std::span<const std::string_view> older_architectures(std::string_view architecture) {
  // HW: a cubin runs on later minor versions of its major one; ours for 9.0 use what is theirs alone ("a").
  static constexpr std::string_view kOlder[] = {"sm_86", "sm_80"};
  const std::span<const std::string_view> all(kOlder);
  return architecture == "sm_89" ? all : architecture == "sm_86" || architecture == "sm_87" ? all.subspan(1) : all.subspan(2);
}

jit::Digest digest_of(const CompileRequest& request, std::string_view architecture) {
  const std::vector<std::string> options = options_of(request, architecture);
  const std::vector<std::string_view> made_with(options.begin(), options.end());
  return jit::key_of(request.program, made_with);
}

const std::vector<NvrtcPlace>& Compiler::places() const {
  if (!places_.has_value()) {
    places_ = find_nvrtc(nvrtc_folders(variable), driver_version_);
  }
  return *places_;
}

const Nvrtc& Compiler::nvrtc() const {
  const std::lock_guard lock(mutex_);
  std::string tried;
  for (std::size_t i = 0; nvrtc_ == nullptr && i < places().size(); ++i) {
    const NvrtcPlace& place = places()[i];
    if (!place.refusal.empty()) {
      tried += fmt::format("\n    {}: {}", cuda::describe(place), place.refusal);
      continue;
    }
    try {
      nvrtc_ = std::make_unique<Nvrtc>(place);
    } catch (const DeviceFailed& error) {
      tried += fmt::format("\n    {}: {}", cuda::describe(place), error.what());
    }
  }
  if (nvrtc_ == nullptr) {
    throw Unsupported(
        fmt::format("compile: no usable NVRTC is here{}{}; install one (pip install nvidia-cuda-nvrtc), name it with FOVEA_NVRTC_PATH, or "
                    "fill the cache on a machine that has one (fovea compile)",
                    tried.empty() ? "" : "; found:", tried));
  }
  return *nvrtc_;
}

jit::CacheKey Compiler::key_of(std::string_view architecture, const CompileRequest& request, int major) const {
  // HW: a driver loads cubins of its own major version of CUDA and of older ones.
  const std::string digest = digest_of(request, architecture).hex();
  const std::string cuda = fmt::format("CUDA {}", major);
  const std::string_view texts[] = {digest, cuda};
  return {.label = fmt::format("{}-{}", request.label, architecture), .digest = jit::digest_of(texts)};
}

std::optional<jit::Artefact> Compiler::find(const CompileRequest& request) const {
  {
    const std::lock_guard lock(mutex_);
    const auto unkept = unkept_.find(digest_of(request, architecture_).hex());
    if (unkept != unkept_.end()) {
      return unkept->second;
    }
  }
  if (std::optional<jit::Artefact> found = find_for(architecture_, request)) {
    return found;
  }
  if (driver_version_ > 0) {  // on a GPU: a cache is filled for what was asked
    for (const std::string_view older : older_architectures(architecture_)) {
      if (std::optional<jit::Artefact> found = find_for(older, request)) {
        return found;
      }
    }
  }
  return std::nullopt;
}

std::optional<jit::Artefact> Compiler::find_for(std::string_view architecture, const CompileRequest& request) const {
  if (const ShippedCubin* shipped = find_shipped(digest_of(request, architecture), driver_version_)) {
    jit::Artefact artefact;
    artefact.bytes = shipped->bytes;
    artefact.shipped = true;
    return artefact;
  }
  const int newest = driver_version_ > 0 ? driver_version_ / 1000 : kNewestMajor;
  for (int major = newest; major >= kOldestNvrtc / 1000; --major) {
    if (std::optional<jit::Artefact> found = cache_.find(key_of(architecture, request, major))) {
      return found;
    }
  }
  return std::nullopt;
}

std::vector<jit::Artefact> Compiler::compile(std::span<const CompileRequest> requests, std::string_view what) const {
  std::vector<jit::Artefact> artefacts(requests.size());
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (std::optional<jit::Artefact> found = find(requests[i])) {
      artefacts[i] = std::move(*found);
    } else {
      missing.push_back(i);
    }
  }
  if (!missing.empty()) {
    const Nvrtc& compiler = nvrtc();
    std::vector<jit::BuildRequest> builds;
    for (const std::size_t i : missing) {
      const CompileRequest& request = requests[i];
      builds.push_back({.key = key_of(architecture_, request, compiler.place().major),
                        .program = request.program,
                        .build = [this, &request] { return build(request); }});
    }
    std::vector<jit::Artefact> built = jit::get_or_build_all(cache_, builds, fmt::format("{} for {}", what, architecture_));
    for (std::size_t i = 0; i < missing.size(); ++i) {
      artefacts[missing[i]] = std::move(built[i]);
    }
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    record(requests[i], artefacts[i]);
    log_report(requests[i], artefacts[i]);
  }
  return artefacts;
}

jit::Built Compiler::build(const CompileRequest& request) const {
  const Nvrtc& compiler = nvrtc();
  const std::string subject = request.variant.empty() ? request.label : fmt::format("variant '{}'", request.variant);
  jit::Built built =
      compiler.compile(request.program, options_of(request, architecture_), fmt::format("{} for {}", subject, architecture_));
  built.log = fmt::format("{}NVRTC {}.{}\n{}", kMadeBy, compiler.place().major, compiler.place().minor, built.log);
  return built;
}

jit::Artefact Compiler::compile_anew(const CompileRequest& request) const {
  return jit::Cache("").get_or_build({.label = request.label, .digest = {}}, request.program, [&] { return build(request); });
}

void Compiler::record(const CompileRequest& request, const jit::Artefact& artefact) const {
  if (artefact.shipped) {
    return;
  }
  const std::lock_guard lock(mutex_);
  if (artefact.path.empty()) {
    unkept_.emplace(digest_of(request, architecture_).hex(), artefact);
  }
  records_.push_back({.variant = request.variant.empty() ? request.label : request.variant,
                      .target = fmt::format("{} {}", request.label, architecture_),
                      .compiler = maker_of(artefact),
                      .cached = artefact.cached,
                      .seconds = artefact.seconds,
                      .cpu_seconds = artefact.cpu_seconds,
                      .path = artefact.path,
                      .when = std::chrono::system_clock::now()});
}

std::vector<CompileRecord> Compiler::records() const {
  const std::lock_guard lock(mutex_);
  return records_;
}

std::string Compiler::describe() const {
  try {
    const Nvrtc& compiler = nvrtc();
    const std::lock_guard lock(mutex_);
    const std::size_t others = places().size() - 1;
    return fmt::format("{}{}", cuda::describe(compiler.place()), others > 0 ? fmt::format(", the best of {} found", others + 1) : "");
  } catch (const Unsupported& error) {
    return error.what();
  }
}

CubinModule::CubinModule(const Gpu& gpu, const std::string& cubin, std::string_view label) : gpu_(gpu), label_(label) {
  const ContextScope scope(gpu.context());
  checked("cuModuleLoadData", driver().api.cuModuleLoadData(&module_, cubin.data()), "{} on cuda:{} ({}, driver of CUDA {})", label, gpu.id,
          gpu.architecture(), version_text(driver().version));
}

CubinModule::~CubinModule() {
  try {
    const ContextScope scope(gpu_.context());
    driver().api.cuModuleUnload(module_);
  } catch (const Error&) {  // NOLINT: the context is gone, and its modules with it
  }
}

CUfunction CubinModule::function(const char* name, int shared_bytes) const {
  const ContextScope scope(gpu_.context());
  CUfunction function = nullptr;
  checked("cuModuleGetFunction", driver().api.cuModuleGetFunction(&function, module_, name), "{} of {}", name, label_);
  if (shared_bytes > 0) {
    checked("cuFuncSetAttribute", driver().api.cuFuncSetAttribute(function, kMaxDynamicSharedBytes, shared_bytes),
            "{} bytes of shared memory for {} of {}", shared_bytes, name, label_);
  }
  // Also for kernels that need none: a multiprocessor has to be idle before it divides its memory in another way, and kernels that follow
  // each other would not overlap.
  checked("cuFuncSetAttribute", driver().api.cuFuncSetAttribute(function, kPreferredSharedMemoryCarveout, 100), "{} of {}", name, label_);
  return function;
}

std::string describe(const Launch& l) {
  return fmt::format("kernel {}, grid {} x {} threads, {} bytes of shared memory", l.kernel, l.grid, l.threads, l.shared_bytes);
}

void launch(const Gpu& gpu, const Launch& l, CUstream stream, void** parameters) {
  CUlaunchAttribute attribute{};
  attribute.id = kProgrammaticStreamSerialization;
  attribute.value.number = 1;
  const CUlaunchConfig config{.grid_x = static_cast<unsigned>(l.grid),
                              .grid_y = 1,
                              .grid_z = 1,
                              .block_x = static_cast<unsigned>(l.threads),
                              .block_y = 1,
                              .block_z = 1,
                              .shared_bytes = static_cast<unsigned>(l.shared_bytes),
                              .stream = stream,
                              .attributes = &attribute,
                              .num_attributes = gpu.major >= 9 ? 1u : 0u};
  if (const CUresult result = driver().api.cuLaunchKernelEx(&config, l.function, parameters, nullptr); result != kSuccess) {
    throw_driver_error(result, "cuLaunchKernelEx", fmt::format("{}, on cuda:{}", describe(l), gpu.id));
  }
}

}  // namespace fovea::cuda
