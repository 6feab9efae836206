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

  template <class T>
  T* host_as() const {
    return reinterpret_cast<T*>(host_.get());
  }
  void* device() const { return apart_ ? apart_->data() : host_.get(); }
  std::int64_t num_bytes() const { return num_bytes_; }
  /// The first bytes. Nothing where the memory is the same; else they wait until the copy is done.
  void upload(std::int64_t num_bytes) const;
  void download(std::int64_t num_bytes) const;
  /// Gives the host's copy back where there is one apart.
  void release_host() {
    if (apart_) {
      host_.reset();
    }
  }

 private:
  std::shared_ptr<std::byte> host_;
  std::shared_ptr<DeviceBuffer> apart_;  // set where the host can't reach device memory
  std::int64_t num_bytes_ = 0;
};

/// Memory of the device alone, every byte `byte`.
SharedBuffer filled_device_memory(const Engine& engine, std::int64_t num_bytes, unsigned char byte);

}  // namespace fovea::serving
