// SharedBuffer: memory that the host writes or reads and the engine's device works on. One allocation where that is the same memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "fovea/device_buffer.h"
#include "fovea/engine.h"

namespace fovea::serving {

class SharedBuffer {
 public:
  SharedBuffer() = default;
  SharedBuffer(const Engine& engine, std::int64_t num_bytes);  // contents are undefined
  /// The device's alone: there is nothing to upload or download where that is not the host.
  static SharedBuffer on_device(const Engine& engine, std::int64_t num_bytes);

  template <class T>
  T* host_as() const {
    return reinterpret_cast<T*>(host_.get());
  }
  void* device() const { return apart_ ? apart_->data() : host_.get(); }
  std::int64_t num_bytes() const { return num_bytes_; }
  /// The first bytes. Nothing where the memory is the same; else it waits until the copy is done.
  void upload(std::int64_t num_bytes) const;
  void fill(unsigned char byte) const;  // all of it, where the device sees it

 private:
  std::shared_ptr<std::byte> host_;
  std::shared_ptr<DeviceBuffer> apart_;  // set where the host can't reach device memory
  std::int64_t num_bytes_ = 0;
};

}  // namespace fovea::serving
