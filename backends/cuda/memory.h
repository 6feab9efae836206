// Device memory, and plans on the device.
#pragma once

#include <cstddef>
#include <memory>

#include "backends/cuda/driver.h"
#include "src/backend.h"

namespace fovea::cuda {

inline CUdeviceptr device_pointer(const void* memory) { return reinterpret_cast<CUdeviceptr>(memory); }
inline CUstream cu_stream(Stream stream) { return static_cast<CUstream>(stream.handle); }

/// Backend::foreign_memory().
std::string foreign_memory(const Gpu& gpu, const void* memory);

/// Into a graph? In the stream's context.
bool is_capturing(CUstream stream);

/// Throws DeviceFailed with what is free when there is no room.
void* allocate(const Gpu& gpu, std::size_t bytes);
void free_memory(const Gpu& gpu, void* memory) noexcept;

std::unique_ptr<DevicePlan> make_device_plan(const Gpu& gpu, std::size_t bytes);

}  // namespace fovea::cuda
