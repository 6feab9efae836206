#include "backends/cuda/compiler.h"

#include <cstdlib>

#include "src/jit/build.h"
#include "src/support/check.h"
#include "src/support/env.h"
#include "src/support/log.h"

namespace fovea::cuda {
namespace {

std::optional<std::string> variable(const char* name) { return text_of_variable(name); }

/// Warnings of the compiler and spilled registers cost speed, never a result.
void log_report(const CompileRequest& request, const jit::Artefact& artefact) {
  const CompileReport report = read_log(artefact.log);
  if (report.spilled_bytes > 0) {
    log_once(fmt::format("{} spills {} bytes of registers: it is slower than it could be", request.label, report.spilled_bytes));
  }
  for (const std::string& warning : report.warnings) {
    log_once(fmt::format("{}: {}", request.label, warning));
  }
}

}  // namespace

Compiler::Compiler(std::string architecture, int driver_version)
    : architecture_(std::move(architecture)), places_(find_nvrtc(nvrtc_folders(variable), driver_version)) {}

const Nvrtc& Compiler::nvrtc() const {
  const std::lock_guard lock(mutex_);
  std::string tried;
  for (std::size_t i = 0; nvrtc_ == nullptr && i < places_.size(); ++i) {
    if (!places_[i].refusal.empty()) {
      tried += fmt::format("\n    {}: {}", cuda::describe(places_[i]), places_[i].refusal);
      continue;
    }
    try {
      nvrtc_ = std::make_unique<Nvrtc>(places_[i]);
    } catch (const DeviceFailed& error) {
      tried += fmt::format("\n    {}: {}", cuda::describe(places_[i]), error.what());
    }
  }
  if (nvrtc_ == nullptr) {
    throw Unsupported(
        fmt::format("compile: no usable NVRTC is here{}{}; install one (pip install nvidia-cuda-nvrtc) or name it with FOVEA_NVRTC_PATH",
                    tried.empty() ? "" : "; found:", tried));
  }
  return *nvrtc_;
}

std::vector<jit::Artefact> Compiler::compile(std::span<const CompileRequest> requests, std::string_view what) const {
  const Nvrtc& compiler = nvrtc();
  const std::string version = fmt::format("NVRTC {}.{}", compiler.place().major, compiler.place().minor);
  std::vector<std::string_view> made_with{version, architecture_};
  for (const char* option : Nvrtc::options()) {
    made_with.emplace_back(option);
  }
  std::vector<jit::BuildRequest> builds;
  for (const CompileRequest& request : requests) {
    builds.push_back(
        {.key = {.label = fmt::format("{}-{}", request.label, architecture_), .digest = jit::key_of(request.program, made_with)},
         .program = request.program,
         .build = [this, &compiler, &request] { return compiler.compile(request.program, architecture_); }});
  }
  std::vector<jit::Artefact> artefacts = jit::get_or_build_all(cache_, builds, fmt::format("{} for {}", what, architecture_));
  for (std::size_t i = 0; i < artefacts.size(); ++i) {
    log_report(requests[i], artefacts[i]);
  }
  return artefacts;
}

std::string Compiler::describe() const {
  try {
    const std::size_t others = places_.size() - 1;
    return fmt::format("{}{}", cuda::describe(nvrtc().place()), others > 0 ? fmt::format(", the best of {} found", others + 1) : "");
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
    checked("cuFuncSetAttribute", driver().api.cuFuncSetAttribute(function, kPreferredSharedMemoryCarveout, 100), "{} of {}", name, label_);
  }
  return function;
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
  checked("cuLaunchKernelEx", driver().api.cuLaunchKernelEx(&config, l.function, parameters, nullptr),
          "kernel {}, grid {} x {} threads, {} bytes of shared memory, on cuda:{}", l.kernel, l.grid, l.threads, l.shared_bytes, gpu.id);
}

}  // namespace fovea::cuda
