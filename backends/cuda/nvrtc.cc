#include "backends/cuda/nvrtc.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <time.h>

#include <algorithm>

#include "src/jit/explain_log.h"
#include "src/support/check.h"

namespace fovea::cuda {

struct Nvrtc::Api {
  using Result = int;
  using Handle = void*;
  const char* (*error_text)(Result);
  Result (*version)(int*, int*);
  Result (*create)(Handle*, const char* source, const char* name, int num_headers, const char* const* headers, const char* const* names);
  Result (*destroy)(Handle*);
  Result (*compile)(Handle, int num_options, const char* const* options);
  Result (*log_bytes)(Handle, std::size_t*);
  Result (*log)(Handle, char*);
  Result (*cubin_bytes)(Handle, std::size_t*);
  Result (*cubin)(Handle, char*);
};

namespace {

constexpr int kOutOfMemoryResult = 1;  // NVRTC_ERROR_OUT_OF_MEMORY

template <class Function>
void load(void* library, const char* name, Function& function, std::string& missing) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr && missing.empty()) {
    missing = name;
  }
}

double thread_cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// A program of NVRTC's, destroyed at the end.
struct NvrtcProgram {
  explicit NvrtcProgram(int (*destroyer)(void**)) : destroy(destroyer) {}
  ~NvrtcProgram() {
    if (handle != nullptr) {
      destroy(&handle);
    }
  }
  NvrtcProgram(const NvrtcProgram&) = delete;
  NvrtcProgram& operator=(const NvrtcProgram&) = delete;
  int (*destroy)(void**);
  void* handle = nullptr;
};

}  // namespace

Nvrtc::Nvrtc(const NvrtcPlace& place) : place_(place) {
  // Order: NVRTC asks the loader for its builtins by name alone; opened before, they are found wherever they are.
  if (!place.builtins.empty() && dlopen(place.builtins.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    throw DeviceFailed(fmt::format("engine: NVRTC's builtins don't open: {}", dlerror()));
  }
  void* library = dlopen(place.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw DeviceFailed(fmt::format("engine: NVRTC does not open: {}", dlerror()));
  }
  auto api = std::make_shared<Api>();
  std::string missing;
  load(library, "nvrtcGetErrorString", api->error_text, missing);
  load(library, "nvrtcVersion", api->version, missing);
  load(library, "nvrtcCreateProgram", api->create, missing);
  load(library, "nvrtcDestroyProgram", api->destroy, missing);
  load(library, "nvrtcCompileProgram", api->compile, missing);
  load(library, "nvrtcGetProgramLogSize", api->log_bytes, missing);
  load(library, "nvrtcGetProgramLog", api->log, missing);
  load(library, "nvrtcGetCUBINSize", api->cubin_bytes, missing);
  load(library, "nvrtcGetCUBIN", api->cubin, missing);
  if (!missing.empty()) {
    throw DeviceFailed(fmt::format("engine: {} has no function {}; it is no NVRTC", place.library, missing));
  }
  api->version(&place_.major, &place_.minor);
  api_ = std::move(api);
}

jit::Built Nvrtc::compile(const jit::Program& program, std::span<const std::string> options, std::string_view what) const {
  std::vector<std::string> texts;  // C strings of views
  std::vector<const char*> header_texts, header_names;
  texts.reserve(2 * (program.headers.size() + program.embedded.size()));
  const auto add = [&](std::string_view path, std::string_view text) {
    texts.emplace_back(path);
    header_names.push_back(texts.back().c_str());
    texts.emplace_back(text);
    header_texts.push_back(texts.back().c_str());
  };
  for (const jit::Program::Header& header : program.headers) {
    add(header.path, header.text);
  }
  for (const jit::SourceFile& file : program.embedded) {
    add(file.path, file.text);
  }
  std::vector<const char*> option_texts;
  for (const std::string& option : options) {
    option_texts.push_back(option.c_str());
  }

  const double begin = thread_cpu_seconds();
  NvrtcProgram nvrtc(api_->destroy);
  jit::Built built;
  int result = api_->create(&nvrtc.handle, program.source.c_str(), program.source_name.c_str(), static_cast<int>(header_names.size()),
                            header_texts.data(), header_names.data());
  if (result == 0) {
    result = api_->compile(nvrtc.handle, static_cast<int>(option_texts.size()), option_texts.data());
    std::size_t bytes = 0;
    if (api_->log_bytes(nvrtc.handle, &bytes) == 0 && bytes > 1) {
      built.log.resize(bytes);
      api_->log(nvrtc.handle, built.log.data());
      built.log.erase(std::min(built.log.find('\0'), built.log.size()));
    }
  }
  std::size_t bytes = 0;
  if (result == 0 && (result = api_->cubin_bytes(nvrtc.handle, &bytes)) == 0) {
    built.bytes.resize(bytes);
    result = api_->cubin(nvrtc.handle, built.bytes.data());
  }
  if (result != 0) {
    if (result == kOutOfMemoryResult) {
      throw DeviceFailed("compile: NVRTC has no memory left");
    }
    built.error = fmt::format("compile: {} failed ({}: {})\n{}", what, describe(place_), api_->error_text(result),
                              jit::explain_log(program, built.log, ""));
  }
  built.cpu_seconds = thread_cpu_seconds() - begin;
  return built;
}

}  // namespace fovea::cuda
