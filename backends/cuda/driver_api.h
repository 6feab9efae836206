// The part of the CUDA driver's interface that the backend calls, declared here because nothing of CUDA is needed to build this library:
// types, numbers and signatures are those of NVIDIA's documented binary interface, which has not changed an entry point since CUDA 4
// without giving the new one a name of its own (the suffixes below).
#pragma once

#include <cstddef>
#include <cstdint>

namespace fovea::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = std::uint64_t;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphNode = struct CUgraphNode_st*;
using CUgraphExec = struct CUgraphExec_st*;

inline constexpr CUresult kSuccess = 0;
inline constexpr CUresult kInvalidValue = 1;
inline constexpr CUresult kOutOfMemory = 2;
inline constexpr CUresult kNoDevice = 100;
inline constexpr CUresult kNotReady = 600;

// CUdevice_attribute
inline constexpr int kMultiprocessorCount = 16;
inline constexpr int kL2CacheBytes = 38;
inline constexpr int kComputeCapabilityMajor = 75;
inline constexpr int kComputeCapabilityMinor = 76;
inline constexpr int kMaxSharedMemoryPerBlockOptin = 97;

// CUfunction_attribute
inline constexpr int kMaxDynamicSharedBytes = 8;
inline constexpr int kPreferredSharedMemoryCarveout = 9;  // percent

// CUpointer_attribute, and a CUmemorytype
inline constexpr int kMemoryType = 2;
inline constexpr int kDeviceOrdinal = 9;
inline constexpr int kDeviceMemory = 2;

inline constexpr unsigned kEventDisableTiming = 2;
inline constexpr unsigned kStreamNonBlocking = 1;
inline const CUstream kLegacyStream = reinterpret_cast<CUstream>(1);  // what no stream at all means
inline constexpr int kCaptureThreadLocal = 1;                         // CUstreamCaptureMode
inline constexpr int kCaptureNone = 0;                                // CUstreamCaptureStatus

/// CUlaunchAttribute: an id, and a value of 64 bytes at offset 8.
struct CUlaunchAttribute {
  int id;
  int padding;
  union {
    char bytes[64];
    int number;
  } value;
};
static_assert(sizeof(CUlaunchAttribute) == 72);
inline constexpr int kProgrammaticStreamSerialization = 6;

struct CUlaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  CUstream stream;
  CUlaunchAttribute* attributes;
  unsigned num_attributes;
};
static_assert(sizeof(CUlaunchConfig) == 56);

/// CUtensorMap: what the copy unit of sm_90 knows of a tensor. A kernel's parameter by value, const __grid_constant__ there.
struct alignas(64) TensorMap {
  std::uint64_t opaque[16];
};
#define FOVEA_TENSOR_MAP_PARAMETERS                                                                                             \
  (TensorMap * map, int element, unsigned rank, void* tensor, const std::uint64_t* extents, const std::uint64_t* strides_bytes, \
   const unsigned* box, const unsigned* element_strides, int interleave, int swizzle, int l2_promotion, int fill)

/// CUDA_KERNEL_NODE_PARAMS_v2
struct CUkernelNodeParams {
  CUfunction function;
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  void** parameters;
  void** extra;
  void* kernel;
  CUcontext context;
};
static_assert(sizeof(CUkernelNodeParams) == 72);

#define FOVEA_SET_NODE_PARAMETERS (CUgraphExec graph, CUgraphNode node, const CUkernelNodeParams* params)

/// X(name, symbol, parameters) for the graphs that run_graph.cc makes. Those of callers are their own.
#define FOVEA_DRIVER_GRAPH_FUNCTIONS(X)                                                                               \
  X(cuStreamCreate, "cuStreamCreate", (CUstream * stream, unsigned flags))                                            \
  X(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream stream))                                                         \
  X(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (CUstream stream, int mode))                                     \
  X(cuStreamEndCapture, "cuStreamEndCapture", (CUstream stream, CUgraph * graph))                                     \
  X(cuGraphGetNodes, "cuGraphGetNodes", (CUgraph graph, CUgraphNode * nodes, std::size_t * count))                    \
  X(cuGraphKernelNodeGetParams, "cuGraphKernelNodeGetParams_v2", (CUgraphNode node, CUkernelNodeParams * params))     \
  X(cuGraphInstantiate, "cuGraphInstantiateWithFlags", (CUgraphExec * graph, CUgraph from, unsigned long long flags)) \
  X(cuGraphUpload, "cuGraphUpload", (CUgraphExec graph, CUstream stream))                                             \
  X(cuGraphExecKernelNodeSetParams, "cuGraphExecKernelNodeSetParams_v2", FOVEA_SET_NODE_PARAMETERS)                   \
  X(cuGraphLaunch, "cuGraphLaunch", (CUgraphExec graph, CUstream stream))                                             \
  X(cuGraphExecDestroy, "cuGraphExecDestroy", (CUgraphExec graph))                                                    \
  X(cuGraphDestroy, "cuGraphDestroy", (CUgraph graph))

#define FOVEA_LAUNCH_PARAMETERS (const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra)

/// X(name, symbol, parameters): every entry point that is called.
#define FOVEA_DRIVER_FUNCTIONS(X)                                                                                      \
  X(cuInit, "cuInit", (unsigned flags))                                                                                \
  X(cuDriverGetVersion, "cuDriverGetVersion", (int* version))                                                          \
  X(cuGetErrorName, "cuGetErrorName", (CUresult error, const char** name))                                             \
  X(cuGetErrorString, "cuGetErrorString", (CUresult error, const char** text))                                         \
  X(cuDeviceGetCount, "cuDeviceGetCount", (int* count))                                                                \
  X(cuDeviceGet, "cuDeviceGet", (CUdevice * device, int ordinal))                                                      \
  X(cuDeviceGetName, "cuDeviceGetName", (char* name, int bytes, CUdevice device))                                      \
  X(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int* value, int attribute, CUdevice device))                        \
  X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (std::size_t * bytes, CUdevice device))                                   \
  X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (CUcontext * context, CUdevice device))                      \
  X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))                                      \
  X(cuCtxGetCurrent, "cuCtxGetCurrent", (CUcontext * context))                                                         \
  X(cuCtxSetCurrent, "cuCtxSetCurrent", (CUcontext context))                                                           \
  X(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr * memory, std::size_t bytes))                                            \
  X(cuMemFree, "cuMemFree_v2", (CUdeviceptr memory))                                                                   \
  X(cuMemAllocHost, "cuMemAllocHost_v2", (void** memory, std::size_t bytes))                                           \
  X(cuMemFreeHost, "cuMemFreeHost", (void* memory))                                                                    \
  X(cuMemcpyHtoD, "cuMemcpyHtoD_v2", (CUdeviceptr to, const void* from, std::size_t bytes))                            \
  X(cuMemcpyDtoH, "cuMemcpyDtoH_v2", (void* to, CUdeviceptr from, std::size_t bytes))                                  \
  X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", (CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream)) \
  X(cuMemsetD8, "cuMemsetD8_v2", (CUdeviceptr memory, unsigned char byte, std::size_t bytes))                          \
  X(cuPointerGetAttribute, "cuPointerGetAttribute", (void* value, int attribute, CUdeviceptr memory))                  \
  X(cuMemGetInfo, "cuMemGetInfo_v2", (std::size_t * free, std::size_t * total))                                        \
  X(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream))                                                     \
  X(cuStreamIsCapturing, "cuStreamIsCapturing", (CUstream stream, int* status))                                        \
  X(cuStreamWaitEvent, "cuStreamWaitEvent", (CUstream stream, CUevent event, unsigned flags))                          \
  X(cuEventCreate, "cuEventCreate", (CUevent * event, unsigned flags))                                                 \
  X(cuEventRecord, "cuEventRecord", (CUevent event, CUstream stream))                                                  \
  X(cuEventQuery, "cuEventQuery", (CUevent event))                                                                     \
  X(cuEventSynchronize, "cuEventSynchronize", (CUevent event))                                                         \
  X(cuEventDestroy, "cuEventDestroy_v2", (CUevent event))                                                              \
  X(cuModuleLoadData, "cuModuleLoadData", (CUmodule * module, const void* image))                                      \
  X(cuModuleUnload, "cuModuleUnload", (CUmodule module))                                                               \
  X(cuModuleGetFunction, "cuModuleGetFunction", (CUfunction * function, CUmodule module, const char* name))            \
  X(cuFuncSetAttribute, "cuFuncSetAttribute", (CUfunction function, int attribute, int value))                         \
  X(cuTensorMapEncodeTiled, "cuTensorMapEncodeTiled", FOVEA_TENSOR_MAP_PARAMETERS)                                     \
  X(cuLaunchKernelEx, "cuLaunchKernelEx", FOVEA_LAUNCH_PARAMETERS)                                                     \
  FOVEA_DRIVER_GRAPH_FUNCTIONS(X)

struct DriverApi {
#define FOVEA_DRIVER_POINTER(name, symbol, parameters) CUresult(*name) parameters = nullptr;
  FOVEA_DRIVER_FUNCTIONS(FOVEA_DRIVER_POINTER)
#undef FOVEA_DRIVER_POINTER
};

}  // namespace fovea::cuda
