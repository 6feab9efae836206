#include "backends/cuda/memory.h"

#include <cstring>

namespace fovea::cuda {
namespace {

/// Copies of plans on their way: so many plan() calls may be ahead of the GPU before one waits.
constexpr int kSlots = 3;

/// For destructors: the context may be gone already, and what was in it with it.
template <class Function>
void quietly(const Gpu& gpu, const Function& function) noexcept {
  try {
    const ContextScope scope(gpu.context());
    function();
  } catch (const Error&) {  // NOLINT
  }
}

class Event {
 public:
  explicit Event(const Gpu& gpu) : gpu_(gpu) {
    const ContextScope scope(gpu.context());
    checked("cuEventCreate", driver().api.cuEventCreate(&event_, kEventDisableTiming), "");
  }
  ~Event() {
    quietly(gpu_, [&] { driver().api.cuEventDestroy(event_); });
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  CUevent get() const { return event_; }

 private:
  const Gpu& gpu_;
  CUevent event_ = nullptr;
};

/// Page-locked: copies from it run in the background.
class StagingMemory {
 public:
  StagingMemory(const Gpu& gpu, std::size_t bytes) : gpu_(gpu) {
    const ContextScope scope(gpu.context());
    checked("cuMemAllocHost", driver().api.cuMemAllocHost(&memory_, bytes), "{} bytes of page-locked host memory", bytes);
  }
  ~StagingMemory() {
    quietly(gpu_, [&] { driver().api.cuMemFreeHost(memory_); });
  }
  StagingMemory(const StagingMemory&) = delete;
  StagingMemory& operator=(const StagingMemory&) = delete;
  std::byte* get() const { return static_cast<std::byte*>(memory_); }

 private:
  const Gpu& gpu_;
  void* memory_ = nullptr;
};

class GpuMemory {
 public:
  GpuMemory(const Gpu& gpu, std::size_t bytes) : gpu_(gpu), memory_(allocate(gpu, bytes)) {}
  ~GpuMemory() { free_memory(gpu_, memory_); }
  GpuMemory(const GpuMemory&) = delete;
  GpuMemory& operator=(const GpuMemory&) = delete;
  void* get() const { return memory_; }

 private:
  const Gpu& gpu_;
  void* memory_;
};

class CudaDevicePlan : public DevicePlan {
 public:
  CudaDevicePlan(const Gpu& gpu, std::size_t bytes)
      : gpu_(gpu),
        bytes_(bytes),
        memory_(gpu, bytes),
        staging_(gpu, kSlots * bytes),
        copied_{Event(gpu), Event(gpu), Event(gpu)},
        done_(gpu) {}

  void* memory() const override { return memory_.get(); }

  void publish(const void* plan, std::span<const PlanBytes> parts, Stream stream) override {
    const ContextScope scope(gpu_.context());
    continue_on(stream);
    const Event& copied = copied_[next_];
    wait_for_copy(copied);
    std::byte* staged = staging_.get() + static_cast<std::size_t>(next_) * bytes_;
    for (const PlanBytes& part : parts) {
      const std::size_t bytes = part.end - part.begin;
      std::memcpy(staged + part.begin, static_cast<const std::byte*>(plan) + part.begin, bytes);
      checked("cuMemcpyHtoDAsync",
              driver().api.cuMemcpyHtoDAsync(device_pointer(memory_.get()) + part.begin, staged + part.begin, bytes, cu_stream(stream)),
              "plan: {} bytes", bytes);
    }
    checked("cuEventRecord", driver().api.cuEventRecord(copied.get(), cu_stream(stream)), "plan");
    next_ = (next_ + 1) % kSlots;
  }

  void continue_on(Stream stream) override {
    if (used_ && last_ != cu_stream(stream)) {
      const ContextScope scope(gpu_.context());
      checked("cuEventRecord", driver().api.cuEventRecord(done_.get(), last_), "the stream a plan was last used on");
      checked("cuStreamWaitEvent", driver().api.cuStreamWaitEvent(cu_stream(stream), done_.get(), 0), "the stream a plan is used on now");
    }
    used_ = true;
    last_ = cu_stream(stream);
  }

 private:
  /// Only a host that is kSlots plans ahead of the GPU waits.
  void wait_for_copy(const Event& copied) {
    const CUresult result = driver().api.cuEventQuery(copied.get());
    if (result == kNotReady) {
      checked("cuEventSynchronize", driver().api.cuEventSynchronize(copied.get()), "plan: waiting for the plan {} calls ago", kSlots);
    } else {
      checked("cuEventQuery", result, "plan: asking for the plan {} calls ago", kSlots);
    }
  }

  const Gpu& gpu_;
  std::size_t bytes_;
  GpuMemory memory_;
  StagingMemory staging_;
  Event copied_[kSlots];
  Event done_;
  CUstream last_ = nullptr;
  bool used_ = false;
  int next_ = 0;
};

}  // namespace

std::string foreign_memory(const Gpu& gpu, const void* memory) {
  const ContextScope scope(gpu.context());
  const DriverApi& api = driver().api;
  int type = 0, owner = gpu.id;
  if (const CUresult result = api.cuPointerGetAttribute(&type, kMemoryType, device_pointer(memory)); result == kInvalidValue) {
    return "host memory that CUDA does not know";
  } else {
    checked("cuPointerGetAttribute", result, "{}", memory);
  }
  checked("cuPointerGetAttribute", api.cuPointerGetAttribute(&owner, kDeviceOrdinal, device_pointer(memory)), "{}", memory);
  // Page-locked host memory and managed memory can be read from everywhere.
  return type == kDeviceMemory && owner != gpu.id ? fmt::format("memory of cuda:{}", owner) : std::string();
}

bool is_capturing(CUstream stream) {
  if (stream == nullptr || stream == kLegacyStream) {
    return false;  // it can't be captured, and to ask while another stream is captured would spoil that
  }
  int status = kCaptureNone;
  checked("cuStreamIsCapturing", driver().api.cuStreamIsCapturing(stream, &status), "");
  return status != kCaptureNone;
}

void* allocate(const Gpu& gpu, std::size_t bytes) {
  const ContextScope scope(gpu.context());
  CUdeviceptr memory = 0;
  const CUresult result = driver().api.cuMemAlloc(&memory, bytes > 0 ? bytes : 1);
  if (result == kOutOfMemory) {
    std::size_t free = 0, total = 0;
    driver().api.cuMemGetInfo(&free, &total);
    throw DeviceFailed(
        fmt::format("allocate: cuda:{} has no {} bytes left ({} of {} MiB are free)", gpu.id, bytes, free >> 20, total >> 20));
  }
  checked("cuMemAlloc", result, "{} bytes on cuda:{}", bytes, gpu.id);
  return reinterpret_cast<void*>(memory);
}

void free_memory(const Gpu& gpu, void* memory) noexcept {
  if (memory != nullptr) {
    quietly(gpu, [&] { driver().api.cuMemFree(device_pointer(memory)); });
  }
}

std::unique_ptr<DevicePlan> make_device_plan(const Gpu& gpu, std::size_t bytes) { return std::make_unique<CudaDevicePlan>(gpu, bytes); }

}  // namespace fovea::cuda
