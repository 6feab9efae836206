#include "serving/shared_buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace fovea::serving {
namespace {

constexpr std::size_t kHugePage = 1 << 21;

std::shared_ptr<std::byte> host_memory(std::int64_t num_bytes) {
  const std::size_t rounded = (static_cast<std::size_t>(num_bytes) + kHugePage) / kHugePage * kHugePage;
  std::shared_ptr<std::byte> memory(static_cast<std::byte*>(std::aligned_alloc(kHugePage, rounded)), std::free);
  if (!memory) {
    throw std::bad_alloc();
  }
  madvise(memory.get(), rounded, MADV_HUGEPAGE);  // a hint: nothing depends on it but speed
  return memory;
}

}  // namespace

SharedBuffer::SharedBuffer(const Engine& engine, std::int64_t num_bytes) : host_(host_memory(num_bytes)), num_bytes_(num_bytes) {
  if (engine.device().type != DeviceType::cpu) {
    apart_ = std::make_shared<DeviceBuffer>(engine, static_cast<std::size_t>(num_bytes));
  }
}

void SharedBuffer::upload(std::int64_t num_bytes) const {
  if (apart_) {
    apart_->write(host_.get(), static_cast<std::size_t>(num_bytes));
  }
}

void SharedBuffer::fill(unsigned char byte) const {
  if (apart_) {
    apart_->fill(byte);
  } else {
    std::memset(host_.get(), byte, static_cast<std::size_t>(num_bytes_));
  }
}

SharedBuffer SharedBuffer::on_device(const Engine& engine, std::int64_t num_bytes) {
  if (engine.device().type == DeviceType::cpu) {
    return {engine, num_bytes};
  }
  SharedBuffer buffer;
  buffer.apart_ = std::make_shared<DeviceBuffer>(engine, static_cast<std::size_t>(num_bytes));
  buffer.num_bytes_ = num_bytes;
  return buffer;
}

}  // namespace fovea::serving
