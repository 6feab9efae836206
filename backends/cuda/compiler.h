// From generated source to code on the GPU: the disk cache, NVRTC when something is missing there, modules.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/driver.h"
#include "backends/cuda/nvrtc.h"
#include "src/jit/cache.h"
#include "src/jit/program.h"

namespace fovea::cuda {

/// Embedded folders that device code may include from.
inline constexpr std::string_view kDeviceFolders[] = {"backends/cuda/device/", "backends/cuda/kernels/"};

struct CompileRequest {
  std::string label;  // "attention_sm80-causal": part of the cache entry's name
  jit::Program program;
};

/// Compiles for one architecture. Safe from several threads.
class Compiler {
 public:
  /// `driver_version` 0: there is none, and any NVRTC will do.
  Compiler(std::string architecture, int driver_version);

  /// Cubins of `requests`, from the cache or compiled in parallel. Throws Unsupported when something has to be compiled and there is no
  /// NVRTC, CompileFailed with the compiler's text.
  std::vector<jit::Artefact> compile(std::span<const CompileRequest> requests, std::string_view what) const;

  /// "NVRTC 13.5 (path, origin)", or why there is none.
  std::string describe() const;

  const std::string& architecture() const { return architecture_; }

 private:
  const Nvrtc& nvrtc() const;  // opens it; throws Unsupported when there is none

  std::string architecture_;
  std::vector<NvrtcPlace> places_;
  jit::Cache cache_ = jit::Cache::from_environment();
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Nvrtc> nvrtc_;
};

/// A loaded cubin. Functions live as long as it does.
class CubinModule {
 public:
  CubinModule(const Gpu& gpu, const std::string& cubin, std::string_view label);
  ~CubinModule();
  CubinModule(const CubinModule&) = delete;
  CubinModule& operator=(const CubinModule&) = delete;

  /// With `shared_bytes` of dynamic shared memory allowed.
  CUfunction function(const char* name, int shared_bytes = 0) const;

 private:
  const Gpu& gpu_;
  std::string label_;
  CUmodule module_ = nullptr;
};

/// A launch: grid and block of one dimension.
struct Launch {
  std::string_view kernel;  // for errors
  CUfunction function;
  int grid, threads, shared_bytes;
};

/// With programmatic dependent launch where the GPU has it: every kernel of ours waits for its predecessor before it reads.
void launch(const Gpu& gpu, const Launch& launch, CUstream stream, void** parameters);

}  // namespace fovea::cuda
