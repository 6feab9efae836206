#include "backends/cuda/driver.h"

#include <dlfcn.h>

#include <exception>

#include "src/support/check.h"

namespace fovea::cuda {
namespace {

/// Where the loader finds it, and where Windows' Linux subsystem keeps it.
constexpr const char* kLibraries[] = {"libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1"};

/// The name of the first function the library lacks; null when it has all.
const char* load_functions(void* library, DriverApi& api) {
#define FOVEA_LOAD(name, symbol, parameters)                               \
  api.name = reinterpret_cast<decltype(api.name)>(dlsym(library, symbol)); \
  if (api.name == nullptr) {                                               \
    return symbol;                                                         \
  }
  FOVEA_DRIVER_FUNCTIONS(FOVEA_LOAD)
#undef FOVEA_LOAD
  return nullptr;
}

std::string error_text(const DriverApi& api, CUresult result) {
  const char* name = nullptr;
  const char* text = nullptr;
  api.cuGetErrorName(result, &name);
  api.cuGetErrorString(result, &text);
  return fmt::format("{} ({})", name != nullptr ? name : "unknown error", text != nullptr ? text : fmt::format("number {}", result));
}

}  // namespace

Driver open_driver(std::span<const char* const> libraries) {
  std::string tried;
  for (const char* name : libraries) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* why = dlerror();
      tried += fmt::format("\n    {}", why != nullptr ? why : name);
      continue;
    }
    Driver driver{.library = name};
    if (const char* missing = load_functions(library, driver.api); missing != nullptr) {
      tried += fmt::format("\n    {}: has no function {}; it is too old, or no CUDA driver", name, missing);
      continue;
    }
    if (const CUresult result = driver.api.cuInit(0); result != kSuccess) {
      throw DeviceFailed(fmt::format("engine: the CUDA driver ({}) does not start: cuInit: {}", name, error_text(driver.api, result)));
    }
    driver.api.cuDriverGetVersion(&driver.version);
    return driver;  // never closed: what it started lives as long as the process
  }
  throw DeviceFailed(fmt::format("engine: there is no CUDA driver here; a GPU's driver brings libcuda.so.1; tried:{}", tried));
}

namespace {
const Driver* driver_instead = nullptr;
}  // namespace

const Driver& driver() {
  if (driver_instead != nullptr) {
    return *driver_instead;
  }
  static const Driver opened = open_driver(kLibraries);
  return opened;
}

DriverInstead::DriverInstead(const Driver& driver) {
  FOVEA_ASSERT(driver_instead == nullptr, "two drivers instead of {}", driver.library);
  driver_instead = &driver;
}

DriverInstead::~DriverInstead() { driver_instead = nullptr; }

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

void throw_driver_error(CUresult result, std::string_view call, std::string_view about) {
  throw DeviceFailed(fmt::format("{}: {}{}{}", call, error_text(driver().api, result), about.empty() ? "" : ": ", about));
}

ContextScope::ContextScope(CUcontext context) {
  checked("cuCtxGetCurrent", driver().api.cuCtxGetCurrent(&previous_), "");
  if (previous_ != context) {
    checked("cuCtxSetCurrent", driver().api.cuCtxSetCurrent(context), "");
    changed_ = true;
  }
}

ContextScope::~ContextScope() {
  if (changed_) {
    driver().api.cuCtxSetCurrent(previous_);
  }
}

Gpu::Gpu(int gpu) : id(gpu) {
  const DriverApi& api = driver().api;
  int count = 0;
  checked("cuDeviceGetCount", api.cuDeviceGetCount(&count), "");
  FOVEA_CHECK(count > 0, "engine: the CUDA driver ({}) sees no GPU; is one there, and does CUDA_VISIBLE_DEVICES name it?",
              driver().library);
  FOVEA_CHECK(0 <= id && id < count, "engine: device_id = {}; the CUDA driver sees GPUs 0 to {}", id, count - 1);
  checked("cuDeviceGet", api.cuDeviceGet(&device_, id), "cuda:{}", id);
  char text[128] = {};
  checked("cuDeviceGetName", api.cuDeviceGetName(text, sizeof text, device_), "cuda:{}", id);
  name = text;
  const auto attribute = [&](int number) {
    int value = 0;
    checked("cuDeviceGetAttribute", api.cuDeviceGetAttribute(&value, number, device_), "attribute {} of cuda:{}", number, id);
    return value;
  };
  major = attribute(kComputeCapabilityMajor);
  minor = attribute(kComputeCapabilityMinor);
  num_multiprocessors = attribute(kMultiprocessorCount);
  max_shared_bytes = attribute(kMaxSharedMemoryPerBlockOptin);
  checked("cuDeviceTotalMem", api.cuDeviceTotalMem(&memory_bytes, device_), "cuda:{}", id);
  if (major < 8) {
    throw Unsupported(
        fmt::format("engine: cuda:{} ({}) is an sm_{}{}; kernels need sm_80 or newer (A100, RTX 30)", id, name, major, minor));
  }
  checked("cuDevicePrimaryCtxRetain", api.cuDevicePrimaryCtxRetain(&context_, device_), "cuda:{}", id);
}

Gpu::~Gpu() { driver().api.cuDevicePrimaryCtxRelease(device_); }

std::string Gpu::architecture() const {
  // HW: sm_90a and its like have instructions that code for sm_90 can't use.
  return fmt::format("sm_{}{}{}", major, minor, major == 9 && minor == 0 ? "a" : "");
}

}  // namespace fovea::cuda
