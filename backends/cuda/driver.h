// The CUDA driver, opened when it is first needed: the library loads and works where there is none. Every failure names the call, CUDA's
// error and what it was about.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "backends/cuda/driver_api.h"
#include "fovea/error.h"

namespace fovea::cuda {

/// An opened driver. Its functions stay valid for the life of the process.
struct Driver {
  DriverApi api;
  std::string library;  // "libcuda.so.1"
  int version = 0;      // 13000: CUDA 13.0
};

/// Opens the first of `libraries` that is a CUDA driver and initialises it. Throws DeviceFailed saying what was tried and why it failed.
Driver open_driver(std::span<const char* const> libraries);

/// The process's driver: opened on the first call, kept; throws what open_driver() throws, on every call.
const Driver& driver();

/// While it lives driver() is this one: for tests that count calls, make them fail, or have no GPU. One at a time, around every engine that
/// uses it.
class DriverInstead {
 public:
  explicit DriverInstead(const Driver& driver);
  ~DriverInstead();
  DriverInstead(const DriverInstead&) = delete;
  DriverInstead& operator=(const DriverInstead&) = delete;
};

/// "13.0"
std::string version_text(int version);

/// Throws DeviceFailed for a result that is no success: "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY (out of memory): 4096 bytes".
[[noreturn]] void throw_driver_error(CUresult result, std::string_view call, std::string_view about);

/// call("cuMemAlloc", driver().api.cuMemAlloc(&memory, bytes), "{} bytes", bytes)
template <class... Values>
void checked(std::string_view call, CUresult result, fmt::format_string<Values...> about, Values&&... values) {
  if (result != kSuccess) [[unlikely]] {
    throw_driver_error(result, call, fmt::format(about, std::forward<Values>(values)...));
  }
}

/// Makes a context current for this thread while it lives.
class ContextScope {
 public:
  explicit ContextScope(CUcontext context);
  ~ContextScope();
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

 private:
  CUcontext previous_ = nullptr;
  bool changed_ = false;
};

/// One GPU with its primary context, which PyTorch and the CUDA runtime use too.
class Gpu {
 public:
  /// Throws InvalidArgument when there is no GPU of that number, Unsupported when it is older than sm_80.
  explicit Gpu(int id);
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  CUcontext context() const { return context_; }
  int id = 0;
  std::string name;  // "NVIDIA H200"
  int major = 0, minor = 0;
  int num_multiprocessors = 0;
  int max_shared_bytes = 0;  // of a CTA
  std::size_t memory_bytes = 0;

  /// What kernels are compiled for: "sm_90a".
  std::string architecture() const;

 private:
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
};

}  // namespace fovea::cuda
