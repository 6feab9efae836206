#include "backends/cuda/probe/probe.h"

#include <dlfcn.h>

#include <map>
#include <utility>

#include "backends/cuda/compiler.h"
#include "backends/cuda/memory.h"

namespace fovea::cuda {
namespace {

using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;
constexpr int kCaptureRelaxed = 2;  // other threads may do what they like meanwhile

/// Entry points that the library has no use for. X(name, symbol, parameters)
#define FOVEA_PROBE_FUNCTIONS(X)                                                                                      \
  X(cuStreamCreate, "cuStreamCreate", (CUstream * stream, unsigned flags))                                            \
  X(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream stream))                                                         \
  X(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (CUstream stream, int mode))                                     \
  X(cuStreamEndCapture, "cuStreamEndCapture", (CUstream stream, CUgraph * graph))                                     \
  X(cuGraphInstantiate, "cuGraphInstantiateWithFlags", (CUgraphExec * executable, CUgraph graph, unsigned long long)) \
  X(cuGraphLaunch, "cuGraphLaunch", (CUgraphExec executable, CUstream stream))                                        \
  X(cuGraphExecDestroy, "cuGraphExecDestroy", (CUgraphExec executable))                                               \
  X(cuGraphDestroy, "cuGraphDestroy", (CUgraph graph))                                                                \
  X(cuEventElapsedTime, "cuEventElapsedTime", (float* milliseconds, CUevent begin, CUevent end))                      \
  X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void* to, CUdeviceptr from, std::size_t bytes, CUstream stream))      \
  X(cuMemsetD8Async, "cuMemsetD8Async", (CUdeviceptr memory, unsigned char byte, std::size_t bytes, CUstream stream))

struct ProbeApi {
#define FOVEA_PROBE_POINTER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  FOVEA_PROBE_FUNCTIONS(FOVEA_PROBE_POINTER)
#undef FOVEA_PROBE_POINTER
};

ProbeApi load_api() {
  ProbeApi api;
  void* library = dlopen(driver().library.c_str(), RTLD_NOW | RTLD_LOCAL);  // open already, and never closed
#define FOVEA_PROBE_LOAD(name, symbol, parameters)                                             \
  api.name = reinterpret_cast<decltype(api.name)>(dlsym(library, symbol));                     \
  if (api.name == nullptr) {                                                                   \
    throw DeviceFailed(fmt::format("probe: {} has no function {}", driver().library, symbol)); \
  }
  FOVEA_PROBE_FUNCTIONS(FOVEA_PROBE_LOAD)
#undef FOVEA_PROBE_LOAD
  return api;
}

const ProbeApi& probe_api() {
  static const ProbeApi api = load_api();
  return api;
}

}  // namespace

struct Probe::Impl {
  explicit Impl(int device_id) : gpu(device_id), compiler(gpu.architecture(), driver().version) {
    const ContextScope scope(gpu.context());
    checked("cuStreamCreate", probe_api().cuStreamCreate(&stream, kStreamNonBlocking), "");
    int bytes = 0;
    CUdevice device = 0;
    checked("cuDeviceGet", driver().api.cuDeviceGet(&device, device_id), "{}", device_id);
    checked("cuDeviceGetAttribute", driver().api.cuDeviceGetAttribute(&bytes, kL2CacheBytes, device), "size of the L2 cache");
    l2_bytes = bytes;
  }
  ~Impl() {
    const ContextScope scope(gpu.context());
    probe_api().cuStreamDestroy(stream);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Gpu gpu;
  Compiler compiler;
  CUstream stream = nullptr;
  std::int64_t l2_bytes = 0;
};

Probe::Probe(int device_id) : impl_(std::make_unique<Impl>(device_id)) {}
Probe::~Probe() = default;

Stream Probe::stream() const { return {impl_->stream}; }
int Probe::num_multiprocessors() const { return impl_->gpu.num_multiprocessors; }
std::int64_t Probe::l2_bytes() const { return impl_->l2_bytes; }

void Probe::synchronise() const {
  const ContextScope scope(impl_->gpu.context());
  checked("cuStreamSynchronize", driver().api.cuStreamSynchronize(impl_->stream), "");
}

std::int64_t Probe::free_bytes() const {
  const ContextScope scope(impl_->gpu.context());
  std::size_t free = 0, total = 0;
  checked("cuMemGetInfo", driver().api.cuMemGetInfo(&free, &total), "");
  return static_cast<std::int64_t>(free);
}

std::string Probe::describe() const {
  return fmt::format("{}, {} multiprocessors, driver of CUDA {}", impl_->gpu.name, impl_->gpu.num_multiprocessors,
                     version_text(driver().version));
}

void Probe::copy_to_device(void* to, const void* from, std::size_t bytes) const {
  const ContextScope scope(impl_->gpu.context());
  checked("cuMemcpyHtoDAsync", driver().api.cuMemcpyHtoDAsync(device_pointer(to), from, bytes, impl_->stream), "{} bytes", bytes);
}

void Probe::copy_to_host(void* to, const void* from, std::size_t bytes) const {
  const ContextScope scope(impl_->gpu.context());
  checked("cuMemcpyDtoHAsync", probe_api().cuMemcpyDtoHAsync(to, device_pointer(from), bytes, impl_->stream), "{} bytes", bytes);
}

void Probe::fill(void* memory, unsigned char byte, std::size_t bytes) const {
  const ContextScope scope(impl_->gpu.context());
  checked("cuMemsetD8Async", probe_api().cuMemsetD8Async(device_pointer(memory), byte, bytes, impl_->stream), "{} bytes", bytes);
}

ProbeGraph::ProbeGraph(const Probe& probe, const std::function<void()>& calls) : probe_(probe) {
  const Probe::Impl& p = probe.impl();
  const ContextScope scope(p.gpu.context());
  checked("cuStreamBeginCapture", probe_api().cuStreamBeginCapture(p.stream, kCaptureRelaxed), "");
  CUgraph captured = nullptr;
  try {
    calls();
  } catch (...) {
    probe_api().cuStreamEndCapture(p.stream, &captured);  // or the stream would stay in capture
    probe_api().cuGraphDestroy(captured);
    throw;
  }
  checked("cuStreamEndCapture", probe_api().cuStreamEndCapture(p.stream, &captured), "");
  CUgraphExec executable = nullptr;
  const CUresult result = probe_api().cuGraphInstantiate(&executable, captured, 0);
  probe_api().cuGraphDestroy(captured);
  checked("cuGraphInstantiate", result, "");
  graph_ = executable;
}

ProbeGraph::ProbeGraph(ProbeGraph&& other) noexcept : probe_(other.probe_), graph_(std::exchange(other.graph_, nullptr)) {}

ProbeGraph::~ProbeGraph() {
  if (graph_ != nullptr) {
    const ContextScope scope(probe_.impl().gpu.context());
    probe_api().cuGraphExecDestroy(static_cast<CUgraphExec>(graph_));
  }
}

void ProbeGraph::launch() const {
  const ContextScope scope(probe_.impl().gpu.context());
  checked("cuGraphLaunch", probe_api().cuGraphLaunch(static_cast<CUgraphExec>(graph_), probe_.impl().stream), "");
}

ProbeMark::ProbeMark(const Probe& probe) : probe_(probe) {
  const ContextScope scope(probe.impl().gpu.context());
  CUevent event = nullptr;
  checked("cuEventCreate", driver().api.cuEventCreate(&event, 0), "");
  event_ = event;
}

ProbeMark::~ProbeMark() {
  const ContextScope scope(probe_.impl().gpu.context());
  driver().api.cuEventDestroy(static_cast<CUevent>(event_));
}

void ProbeMark::set() const {
  const ContextScope scope(probe_.impl().gpu.context());
  checked("cuEventRecord", driver().api.cuEventRecord(static_cast<CUevent>(event_), probe_.impl().stream), "");
}

void ProbeMark::wait() const {
  const ContextScope scope(probe_.impl().gpu.context());
  checked("cuEventSynchronize", driver().api.cuEventSynchronize(static_cast<CUevent>(event_)), "");
}

double ProbeMark::microseconds(const ProbeMark& begin, const ProbeMark& end) {
  end.wait();
  const ContextScope scope(end.probe_.impl().gpu.context());
  float milliseconds = 0;
  checked("cuEventElapsedTime",
          probe_api().cuEventElapsedTime(&milliseconds, static_cast<CUevent>(begin.event_), static_cast<CUevent>(end.event_)), "");
  return 1e3 * static_cast<double>(milliseconds);
}

struct ProbeKernels::Impl {
  const Probe& probe;
  std::unique_ptr<CubinModule> module;
  std::map<std::pair<std::string, int>, CUfunction> functions;  // by name and shared bytes
};

ProbeKernels::ProbeKernels(const Probe& probe, const std::string& label, const std::string& source) {
  const Probe::Impl& p = probe.impl();
  std::vector<std::string_view> folders{"fovea/", "portable/", "backends/cuda/probe/"};
  folders.insert(folders.end(), std::begin(kDeviceFolders), std::end(kDeviceFolders));
  const CompileRequest request{
      .label = "probe_" + label,
      .program = {.source_name = "source.cu", .source = source, .headers = {}, .embedded = jit::embedded_sources_under(folders)}};
  const std::vector<jit::Artefact> cubins = p.compiler.compile({&request, 1}, label);
  impl_ = std::make_unique<Impl>(Impl{probe, std::make_unique<CubinModule>(p.gpu, cubins[0].bytes, request.label), {}});
}

ProbeKernels::~ProbeKernels() = default;

void ProbeKernels::launch(const char* kernel, const ProbeGrid& grid, void** parameters) const {
  const Probe::Impl& p = impl_->probe.impl();
  CUfunction& function = impl_->functions[{kernel, grid.shared_bytes}];
  if (function == nullptr) {
    function = impl_->module->function(kernel, grid.shared_bytes);
  }
  const ContextScope scope(p.gpu.context());
  cuda::launch(p.gpu,
               {.kernel = kernel, .function = function, .grid = grid.ctas, .threads = grid.threads, .shared_bytes = grid.shared_bytes},
               p.stream, parameters);
}

}  // namespace fovea::cuda
