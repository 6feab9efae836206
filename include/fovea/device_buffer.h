// DeviceBuffer: memory on an engine's device, for programs that get it from no other library.
#pragma once

#include <cstddef>
#include <memory>

#include "fovea/engine.h"

namespace fovea {

/// Owns device memory. Keeps its engine alive. On the cpu, host memory. Copies wait until they are done.
class DeviceBuffer {
 public:
  DeviceBuffer(const Engine& engine, std::size_t bytes);  // throws DeviceFailed when there is no room
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&&) = delete;
  ~DeviceBuffer();

  void* data() const { return memory_; }
  std::size_t bytes() const { return bytes_; }
  // From byte `offset` of the buffer on. Throw InvalidArgument when it is too small.
  void write(const void* from, std::size_t bytes, std::size_t offset = 0) const;
  void read(void* to, std::size_t bytes, std::size_t offset = 0) const;
  void fill(unsigned char byte) const;  // all of it

 private:
  std::shared_ptr<Engine::Impl> engine_;
  void* memory_;
  std::size_t bytes_;
};

}  // namespace fovea
