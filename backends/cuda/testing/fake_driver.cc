#include "backends/cuda/testing/fake_driver.h"

#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

namespace fovea::cuda {

// What the handles of a fake driver point to.
struct CUfunc_st {
  std::string name;
};
struct CUmod_st {
  std::map<std::string, std::unique_ptr<CUfunc_st>> functions;
};
struct CUevent_st {};
struct CUctx_st {};
struct CUstream_st {
  CUgraph recorded = nullptr;  // null: not recorded
};
struct CUgraphNode_st {
  CUfunction function;
  testing::FakeLaunch launch;
};
struct CUgraph_st {
  std::vector<std::unique_ptr<CUgraphNode_st>> nodes;
};
struct CUgraphExec_st {
  std::map<CUgraphNode, std::size_t> indices;
  std::vector<testing::FakeLaunch> launches;
};

namespace testing {
namespace {

constexpr CUresult kInvalidDevice = 101, kInvalidContext = 201;
constexpr std::size_t kAlignment = 256;

FakeGpu* fake = nullptr;
CUctx_st fake_context;

const std::map<CUresult, std::pair<const char*, const char*>> kErrors{
    {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {209, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {600, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {701, {"CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"}},
};

bool in_context() { return fake->current == &fake_context; }

bool is_device_memory(CUdeviceptr memory, std::size_t bytes) {
  const auto after = fake->allocations.upper_bound(memory);
  if (after == fake->allocations.begin()) {
    return false;
  }
  const auto& [begin, size] = *std::prev(after);
  return memory + bytes <= begin + size;
}

// ---- The driver's functions, in the order of driver_api.h
// ---------------------------------------------------------------------------------

CUresult init(unsigned) { return kSuccess; }
CUresult driver_version(int* version) {
  *version = 13000;
  return kSuccess;
}
CUresult error_name(CUresult error, const char** name) {
  const auto it = kErrors.find(error);
  *name = it == kErrors.end() ? nullptr : it->second.first;
  return kSuccess;
}
CUresult error_string(CUresult error, const char** text) {
  const auto it = kErrors.find(error);
  *text = it == kErrors.end() ? nullptr : it->second.second;
  return kSuccess;
}
CUresult device_count(int* count) {
  *count = fake->num_gpus;
  return kSuccess;
}
CUresult device_get(CUdevice* device, int ordinal) {
  *device = ordinal;
  return 0 <= ordinal && ordinal < fake->num_gpus ? kSuccess : kInvalidDevice;
}
CUresult device_name(char* name, int bytes, CUdevice) {
  std::strncpy(name, "Fake GPU", static_cast<std::size_t>(bytes));
  return kSuccess;
}
CUresult device_attribute(int* value, int attribute, CUdevice) {
  const std::map<int, int> values{{kMultiprocessorCount, 132},
                                  {kComputeCapabilityMajor, fake->major},
                                  {kComputeCapabilityMinor, fake->minor},
                                  {kMaxSharedMemoryPerBlockOptin, fake->max_shared_bytes}};
  const auto it = values.find(attribute);
  *value = it == values.end() ? 0 : it->second;
  return it == values.end() ? kInvalidValue : kSuccess;
}
CUresult device_memory(std::size_t* bytes, CUdevice) {
  *bytes = fake->memory_bytes;
  return kSuccess;
}
CUresult retain_context(CUcontext* context, CUdevice) {
  *context = &fake_context;
  ++fake->num_contexts;
  return kSuccess;
}
CUresult release_context(CUdevice) {
  --fake->num_contexts;
  return kSuccess;
}
CUresult get_current(CUcontext* context) {
  *context = fake->current;
  return kSuccess;
}
CUresult set_current(CUcontext context) {
  fake->current = context;
  return kSuccess;
}
CUresult allocate(CUdeviceptr* memory, std::size_t bytes) {
  if (!in_context()) {
    return kInvalidContext;
  }
  if (bytes == 0 || bytes > fake->memory_bytes - fake->allocated_bytes) {
    return bytes == 0 ? kInvalidValue : kOutOfMemory;
  }
  *memory = reinterpret_cast<CUdeviceptr>(std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment));
  fake->allocations[*memory] = bytes;
  fake->allocated_bytes += bytes;
  return kSuccess;
}
CUresult release(CUdeviceptr memory) {
  const auto it = fake->allocations.find(memory);
  if (it == fake->allocations.end()) {
    return kInvalidValue;
  }
  fake->allocated_bytes -= it->second;
  fake->allocations.erase(it);
  std::free(reinterpret_cast<void*>(memory));
  return kSuccess;
}
CUresult allocate_host(void** memory, std::size_t bytes) {
  *memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  ++fake->num_host_allocations;
  return in_context() ? kSuccess : kInvalidContext;
}
CUresult release_host(void* memory) {
  std::free(memory);
  --fake->num_host_allocations;
  return kSuccess;
}
CUresult copy_to_device(CUdeviceptr to, const void* from, std::size_t bytes) {
  if (!in_context() || !is_device_memory(to, bytes)) {
    return in_context() ? kInvalidValue : kInvalidContext;
  }
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return kSuccess;
}
CUresult copy_to_host(void* to, CUdeviceptr from, std::size_t bytes) {
  if (!in_context() || !is_device_memory(from, bytes)) {
    return in_context() ? kInvalidValue : kInvalidContext;
  }
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return kSuccess;
}
CUresult copy_async(CUdeviceptr to, const void* from, std::size_t bytes, CUstream) { return copy_to_device(to, from, bytes); }
CUresult set_memory(CUdeviceptr memory, unsigned char byte, std::size_t bytes) {
  if (!in_context() || !is_device_memory(memory, bytes)) {
    return in_context() ? kInvalidValue : kInvalidContext;
  }
  std::memset(reinterpret_cast<void*>(memory), byte, bytes);
  return kSuccess;
}
CUresult pointer_attribute(void* value, int attribute, CUdeviceptr memory) {
  if (!is_device_memory(memory, 1)) {
    return kInvalidValue;
  }
  const int number = attribute == kMemoryType ? kDeviceMemory : fake->owner_of_memory;
  std::memcpy(value, &number, sizeof number);
  return kSuccess;
}
CUresult memory_left(std::size_t* free, std::size_t* total) {
  *total = fake->memory_bytes;
  *free = fake->memory_bytes - fake->allocated_bytes;
  return kSuccess;
}
CUresult synchronise_stream(CUstream) { return in_context() ? kSuccess : kInvalidContext; }
CUresult is_capturing(CUstream, int* status) {
  *status = fake->capture_status;
  return in_context() ? kSuccess : kInvalidContext;
}
CUresult wait_event(CUstream, CUevent, unsigned) { return in_context() ? kSuccess : kInvalidContext; }
CUresult create_event(CUevent* event, unsigned) {
  *event = new CUevent_st;
  ++fake->num_events;
  return in_context() ? kSuccess : kInvalidContext;
}
CUresult record_event(CUevent, CUstream) { return in_context() ? kSuccess : kInvalidContext; }
CUresult query_event(CUevent) { return fake->events_are_done ? kSuccess : kNotReady; }
CUresult synchronise_event(CUevent) { return in_context() ? kSuccess : kInvalidContext; }
CUresult destroy_event(CUevent event) {
  delete event;
  --fake->num_events;
  return kSuccess;
}
CUresult load_module(CUmodule* module, const void*) {
  if (!in_context()) {
    return kInvalidContext;
  }
  *module = new CUmod_st;
  ++fake->num_modules;
  return kSuccess;
}
CUresult unload_module(CUmodule module) {
  delete module;
  --fake->num_modules;
  return kSuccess;
}
CUresult get_function(CUfunction* function, CUmodule module, const char* name) {
  std::unique_ptr<CUfunc_st>& known = module->functions[name];
  if (known == nullptr) {
    known = std::make_unique<CUfunc_st>(CUfunc_st{name});
  }
  *function = known.get();
  return kSuccess;
}
CUresult set_attribute(CUfunction, int, int) { return kSuccess; }
/// Its arguments, as they are now.
KernelParams params_of(CUfunction function, void** parameters) {
  KernelParams params{};
  if (function->name == "attention" || function->name == "merge_partials" || function->name == "compose_levels") {
    std::memcpy(&params, parameters[0], sizeof params);
  }
  return params;
}
CUresult launch(const CUlaunchConfig* config, CUfunction function, void** parameters, void**) {
  if (!in_context()) {
    return kInvalidContext;
  }
  bool programmatic = false;
  for (unsigned i = 0; i < config->num_attributes; ++i) {
    programmatic |= config->attributes[i].id == kProgrammaticStreamSerialization && config->attributes[i].value.number != 0;
  }
  const FakeLaunch launch{.kernel = function->name,
                          .grid = static_cast<int>(config->grid_x),
                          .threads = static_cast<int>(config->block_x),
                          .shared_bytes = static_cast<int>(config->shared_bytes),
                          .stream = config->stream,
                          .programmatic = programmatic,
                          .params = params_of(function, parameters)};
  if (config->stream != nullptr && config->stream == fake->recording) {
    config->stream->recorded->nodes.push_back(std::make_unique<CUgraphNode_st>(CUgraphNode_st{function, launch}));
  } else {
    fake->launches.push_back(launch);
  }
  return kSuccess;
}
CUresult create_stream(CUstream* stream, unsigned) {
  *stream = new CUstream_st;
  ++fake->num_streams;
  return in_context() ? kSuccess : kInvalidContext;
}
CUresult destroy_stream(CUstream stream) {
  fake->recording = fake->recording == stream ? nullptr : fake->recording;
  delete stream;
  --fake->num_streams;
  return kSuccess;
}
CUresult begin_capture(CUstream stream, int) {
  stream->recorded = new CUgraph_st;
  fake->recording = stream;
  ++fake->num_graphs;
  return kSuccess;
}
CUresult end_capture(CUstream stream, CUgraph* graph) {
  *graph = stream->recorded;
  fake->recording = nullptr;
  return kSuccess;
}
CUresult graph_nodes(CUgraph graph, CUgraphNode* nodes, std::size_t* count) {
  std::size_t i = graph->nodes.size();
  *count = i;
  for (const auto& node : graph->nodes) {
    nodes[--i] = node.get();  // in no order that anybody may rely on
  }
  return kSuccess;
}
CUresult node_params(CUgraphNode node, CUkernelNodeParams* params) {
  params->function = node->function;
  return kSuccess;
}
CUresult instantiate(CUgraphExec* executable, CUgraph graph, unsigned long long) {
  *executable = new CUgraphExec_st;
  for (const auto& node : graph->nodes) {
    (*executable)->indices[node.get()] = (*executable)->launches.size();
    (*executable)->launches.push_back(node->launch);
  }
  ++fake->num_graphs;
  return kSuccess;
}
CUresult upload(CUgraphExec, CUstream) { return kSuccess; }
CUresult set_node_params(CUgraphExec executable, CUgraphNode node, const CUkernelNodeParams* params) {
  const auto it = executable->indices.find(node);
  if (it == executable->indices.end()) {
    return kInvalidValue;
  }
  FakeLaunch& launch = executable->launches[it->second];
  launch.grid = static_cast<int>(params->grid_x);
  launch.params = params_of(params->function, params->parameters);
  return kSuccess;
}
CUresult launch_graph(CUgraphExec executable, CUstream stream) {
  for (FakeLaunch launch : executable->launches) {
    launch.stream = stream;
    fake->launches.push_back(launch);
  }
  return in_context() ? kSuccess : kInvalidContext;
}
CUresult destroy_executable(CUgraphExec executable) {
  delete executable;
  --fake->num_graphs;
  return kSuccess;
}
CUresult destroy_graph(CUgraph graph) {
  delete graph;
  --fake->num_graphs;
  return kSuccess;
}

CUresult encode_tensor_map FOVEA_TENSOR_MAP_PARAMETERS {
  const bool valid = rank >= 1 && reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0 && extents[0] > 0 && box[0] > 0;
  static_cast<void>(element), static_cast<void>(strides_bytes), static_cast<void>(element_strides);
  static_cast<void>(interleave), static_cast<void>(swizzle), static_cast<void>(l2_promotion), static_cast<void>(fill);
  *map = {};
  return valid ? kSuccess : 1;
}

DriverApi table() {
  return {.cuInit = init,
          .cuDriverGetVersion = driver_version,
          .cuGetErrorName = error_name,
          .cuGetErrorString = error_string,
          .cuDeviceGetCount = device_count,
          .cuDeviceGet = device_get,
          .cuDeviceGetName = device_name,
          .cuDeviceGetAttribute = device_attribute,
          .cuDeviceTotalMem = device_memory,
          .cuDevicePrimaryCtxRetain = retain_context,
          .cuDevicePrimaryCtxRelease = release_context,
          .cuCtxGetCurrent = get_current,
          .cuCtxSetCurrent = set_current,
          .cuMemAlloc = allocate,
          .cuMemFree = release,
          .cuMemAllocHost = allocate_host,
          .cuMemFreeHost = release_host,
          .cuMemcpyHtoD = copy_to_device,
          .cuMemcpyDtoH = copy_to_host,
          .cuMemcpyHtoDAsync = copy_async,
          .cuMemsetD8 = set_memory,
          .cuPointerGetAttribute = pointer_attribute,
          .cuMemGetInfo = memory_left,
          .cuStreamSynchronize = synchronise_stream,
          .cuStreamIsCapturing = is_capturing,
          .cuStreamWaitEvent = wait_event,
          .cuEventCreate = create_event,
          .cuEventRecord = record_event,
          .cuEventQuery = query_event,
          .cuEventSynchronize = synchronise_event,
          .cuEventDestroy = destroy_event,
          .cuModuleLoadData = load_module,
          .cuModuleUnload = unload_module,
          .cuModuleGetFunction = get_function,
          .cuFuncSetAttribute = set_attribute,
          .cuTensorMapEncodeTiled = encode_tensor_map,
          .cuLaunchKernelEx = launch,
          .cuStreamCreate = create_stream,
          .cuStreamDestroy = destroy_stream,
          .cuStreamBeginCapture = begin_capture,
          .cuStreamEndCapture = end_capture,
          .cuGraphGetNodes = graph_nodes,
          .cuGraphKernelNodeGetParams = node_params,
          .cuGraphInstantiate = instantiate,
          .cuGraphUpload = upload,
          .cuGraphExecKernelNodeSetParams = set_node_params,
          .cuGraphLaunch = launch_graph,
          .cuGraphExecDestroy = destroy_executable,
          .cuGraphDestroy = destroy_graph};
}

}  // namespace

void FakeGpu::fill_memory(unsigned char byte) {
  for (const auto& [memory, bytes] : allocations) {
    std::memset(reinterpret_cast<void*>(memory), byte, bytes);
  }
}

FakeDriver::FakeDriver() : driver_{.api = table(), .library = "a fake driver", .version = 13000} { fake = &gpu_; }

}  // namespace testing
}  // namespace fovea::cuda
