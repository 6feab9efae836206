// From generated source to code on the GPU: the disk cache, NVRTC when something is missing there, modules.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/driver.h"
#include "backends/cuda/nvrtc.h"
#include "src/backend.h"
#include "src/jit/cache.h"
#include "src/jit/program.h"

namespace fovea::cuda {

/// Embedded folders that device code may include from.
inline constexpr std::string_view kDeviceFolders[] = {"backends/cuda/device/", "backends/cuda/kernels/"};

struct CompileRequest {
  std::string label;  // "attention_sm80-causal": part of the cache entry's name
  jit::Program program;
  std::string variant;            // "causal+my_cap"; empty: none
  bool tolerates_spills = false;  // who asks deals with them (ahead.h)
  bool exact_division = false;    // x / y rounded as IEEE asks; else 2 ulp off in a quarter of the code, for |y| < 2^126
};

/// What decides the bits of a cubin besides its program: the options of NVRTC, architecture included.
std::vector<std::string> options_of(const CompileRequest& request, std::string_view architecture);

/// Whose cubins run on it too, where it has none of its own.
std::span<const std::string_view> older_architectures(std::string_view architecture);

/// Names what compiling makes: docs/compiling.md. The same for every NVRTC, so that a machine that has none finds what another compiled.
jit::Digest digest_of(const CompileRequest& request, std::string_view architecture);

/// Who made a cubin, by its log: "NVRTC 13.5".
std::string maker_of(const jit::Artefact& artefact);

/// Compiles for one architecture. Safe from several threads.
class Compiler {
 public:
  /// `driver_version` 0: there is none, and any NVRTC will do. Looks at nothing yet.
  Compiler(std::string architecture, int driver_version, jit::Cache cache = jit::Cache::from_environment())
      : architecture_(std::move(architecture)), driver_version_(driver_version), cache_(std::move(cache)) {}

  /// Cubins of `requests`: shipped in the library, from the cache, or compiled in parallel. Throws Unsupported when something has to be
  /// compiled and there is no NVRTC, CompileFailed with the compiler's text.
  std::vector<jit::Artefact> compile(std::span<const CompileRequest> requests, std::string_view what) const;

  /// Compiled on this thread, kept nowhere.
  jit::Artefact compile_anew(const CompileRequest& request) const;

  /// The cubin if it is shipped or in the cache.
  std::optional<jit::Artefact> find(const CompileRequest& request) const;

  /// "NVRTC 13.5 (path, origin)", or why there is none.
  std::string describe() const;

  /// What compile() compiled or found in the cache, in order; not what is shipped.
  std::vector<CompileRecord> records() const;

  const std::string& architecture() const { return architecture_; }

 private:
  const Nvrtc& nvrtc() const;  // opens it; throws Unsupported when there is none
  const std::vector<NvrtcPlace>& places() const;
  jit::CacheKey key_of(std::string_view architecture, const CompileRequest& request, int major) const;
  std::optional<jit::Artefact> find_for(std::string_view architecture, const CompileRequest& request) const;
  jit::Built build(const CompileRequest& request) const;
  void record(const CompileRequest& request, const jit::Artefact& artefact) const;

  std::string architecture_;
  int driver_version_;
  jit::Cache cache_;
  mutable std::mutex mutex_;
  mutable std::optional<std::vector<NvrtcPlace>> places_;
  mutable std::unique_ptr<Nvrtc> nvrtc_;
  mutable std::vector<CompileRecord> records_;
  mutable std::map<std::string, jit::Artefact> unkept_;  // by digest: what no folder keeps
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

/// "kernel attention_sm80 16x64, grid 264 x 128 threads, 98304 bytes of shared memory"
std::string describe(const Launch& launch);

/// With programmatic dependent launch where the GPU has it: every kernel of ours waits for its predecessor before it reads.
void launch(const Gpu& gpu, const Launch& launch, CUstream stream, void** parameters);

}  // namespace fovea::cuda
