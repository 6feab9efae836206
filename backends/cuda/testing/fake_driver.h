// Test support: a CUDA driver without a GPU, so that all the host does for one is tested on any machine. Device memory is host memory,
// copies happen at once, kernels are recorded and not run.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "backends/cuda/driver.h"
#include "portable/params.h"

namespace fovea::cuda::testing {

/// A kernel launch as the driver got it.
struct FakeLaunch {
  std::string kernel;  // the function's name in its cubin
  int grid, threads, shared_bytes;
  CUstream stream;
  bool programmatic;    // may start while the kernel before it ends
  KernelParams params;  // of attention and merge kernels: a copy of what they were given
};

/// What the fake machine has and has been asked. Tests change it and look into it.
struct FakeGpu {
  int num_gpus = 1;
  int major = 9, minor = 0;
  int max_shared_bytes = 232448;
  std::size_t memory_bytes = std::size_t{1} << 30;
  bool events_are_done = true;  // else the GPU never comes to what it has been given
  int capture_status = 0;       // of every stream
  int owner_of_memory = 0;      // the GPU that all of it is said to be on

  CUcontext current = nullptr;
  std::map<std::uintptr_t, std::size_t> allocations;  // of device memory
  std::size_t allocated_bytes = 0;
  int num_host_allocations = 0, num_modules = 0, num_events = 0, num_streams = 0, num_graphs = 0, num_contexts = 0;  // that are alive
  CUstream recording = nullptr;
  std::vector<FakeLaunch> launches;

  void fill_memory(unsigned char byte);  // every allocation
};

/// One at a time: a driver's functions have no room for a pointer to it.
class FakeDriver {
 public:
  FakeDriver();
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;
  FakeGpu& gpu() { return gpu_; }
  const Driver& driver() const { return driver_; }

 private:
  FakeGpu gpu_;
  Driver driver_;
};

}  // namespace fovea::cuda::testing
