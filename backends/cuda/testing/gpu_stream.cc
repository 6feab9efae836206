#include "backends/cuda/testing/gpu_stream.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <string>

namespace fovea::cuda::testing {
namespace {

/// Calls a function of the driver by its name; throws where that fails.
template <class... Args>
void call(const char* name, Args... args) {
  static void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  const auto function = reinterpret_cast<int (*)(Args...)>(library == nullptr ? nullptr : dlsym(library, name));
  const int result = function == nullptr ? -1 : function(args...);
  if (result != 0) {
    throw std::runtime_error(fmt::format("{}: {}", name, result));
  }
}

constexpr unsigned kNonBlocking = 1;
constexpr int kCaptureThreadLocal = 1;

}  // namespace

GpuGraph::~GpuGraph() {
  if (executable_ != nullptr) {
    call("cuGraphExecDestroy", executable_);
  }
}

void GpuGraph::launch(Stream stream) const { call("cuGraphLaunch", executable_, stream.handle); }

GpuStream::GpuStream() {
  void* context = nullptr;
  call("cuDevicePrimaryCtxRetain", &context, 0);
  call("cuCtxSetCurrent", context);  // stays current, as in a program that uses CUDA
  call("cuStreamCreate", &stream_, kNonBlocking);
}

GpuStream::~GpuStream() { call("cuStreamDestroy_v2", stream_); }

GpuGraph GpuStream::capture(const std::function<void()>& record) const {
  void* graph = nullptr;
  void* executable = nullptr;
  call("cuStreamBeginCapture_v2", stream_, kCaptureThreadLocal);
  record();
  call("cuStreamEndCapture", stream_, &graph);
  call("cuGraphInstantiateWithFlags", &executable, graph, 0ull);
  call("cuGraphDestroy", graph);
  return GpuGraph(executable);
}

}  // namespace fovea::cuda::testing
