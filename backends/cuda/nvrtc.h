// NVRTC, CUDA's run-time compiler: where users have it, which one is taken and why, and compiling with it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/jit/cache.h"
#include "src/jit/program.h"

namespace fovea::cuda {

/// An NVRTC on disk.
struct NvrtcPlace {
  std::string library;   // ".../libnvrtc.so.13"
  std::string builtins;  // ".../libnvrtc-builtins.so.13.5", which it loads by name when it compiles
  std::string origin;    // "FOVEA_NVRTC_PATH", "Python package in /opt/venv", "CUDA toolkit"
  int major = 0, minor = 0;
  std::string refusal;  // empty: may be taken

  int version() const { return 1000 * major + 10 * minor; }
};

/// Folders that may hold one, and what they are.
struct NvrtcFolder {
  std::string path;
  std::string origin;
};

inline constexpr int kOldestNvrtc = 12080;  // 12.8: docs/adr/0023-cuda-without-a-toolkit.md
inline constexpr int kNewestMajor = 13;     // of which a cache may hold cubins where no driver says what it takes

/// What an environment variable says; nothing when it isn't set.
using Variables = std::function<std::optional<std::string>(const char*)>;

/// FOVEA_NVRTC_PATH alone if it is set; else Python environments, toolkits, system folders, in this order. `root` stands before every path
/// that no variable names (tests give one).
std::vector<NvrtcFolder> nvrtc_folders(const Variables& variables, const std::string& root = "");

/// Every NVRTC in those folders, best first: usable before refused, new before old, and of the same version in the order of the folders.
/// `driver_version` 0: no driver asks for anything.
std::vector<NvrtcPlace> find_nvrtc(std::span<const NvrtcFolder> folders, int driver_version);

/// "NVRTC 13.5 (/path, Python package)"
std::string describe(const NvrtcPlace& place);

/// An opened compiler. Safe to use from several threads.
class Nvrtc {
 public:
  /// Throws DeviceFailed when the library can't be opened.
  explicit Nvrtc(const NvrtcPlace& place);

  const NvrtcPlace& place() const { return place_; }

  /// A cubin, with the compiler's log; where it fails, its errors as `what` failing ("variant 'my_cap' for sm_90a").
  jit::Built compile(const jit::Program& program, std::span<const std::string> options, std::string_view what) const;

 private:
  struct Api;
  NvrtcPlace place_;
  std::shared_ptr<const Api> api_;
};

}  // namespace fovea::cuda
