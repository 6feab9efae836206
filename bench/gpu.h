// Gpu: timing and ceilings on a GPU. Times are the device's, of calls replayed as graphs, so that the host's share is nowhere in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fovea/device_buffer.h"
#include "fovea/engine.h"

namespace fovea::bench {

/// How the load-only kernel is launched: CTAs of a multiprocessor, and KiB that all of them together have on their way.
struct LoadConfig {
  int ctas = 2, kib = 96;
  std::string name() const;  // "load_only_2x48k"
};
std::vector<LoadConfig> load_configs();

/// The kernels below, as they are compiled at run time.
std::string gpu_kernels_source();

/// Pieces of K and V that a step reads: what the load-only kernel is given.
class LoadList;
class BatchArrays;
struct Workload;

class Gpu {
 public:
  /// Compiles kernels of its own: throws Unsupported where there is no NVRTC; DeviceFailed in programs built without CUDA.
  explicit Gpu(const Engine& engine);
  ~Gpu();

  Stream stream() const;  // what is timed is given to this stream
  const Engine& engine() const { return engine_; }
  std::int64_t l2_bytes() const;
  std::int64_t free_bytes() const;

  /// Random numbers of a dtype, with exponents around 1.
  void fill_random(const DeviceBuffer& memory, DType dtype, std::uint64_t seed) const;

  /// Some calls, recorded once. `call(i)` gives the i-th of them to stream().
  class Chain {
   public:
    Chain(const Gpu& gpu, int num_calls, const std::function<void(int)>& call);
    ~Chain();
    Chain(Chain&&) noexcept;
    double microseconds() const;  // of one call, on average

   private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
  };

  void load_only(const LoadConfig& config, const LoadList& list, const void* k, const void* v) const;
  /// Reads memory in order with 128-bit loads. `bytes` is a multiple of 16.
  void read_in_order(const void* memory, std::int64_t bytes) const;
  /// bf16 products of mma.sync in registers, on all multiprocessors; returns how many floating-point operations that is.
  double multiply(std::int64_t steps) const;

 private:
  struct Impl;
  Engine engine_;
  std::unique_ptr<Impl> impl_;
};

class LoadList {
 public:
  /// Rows of K and V over all heads are multiples of the 512 bytes that the kernel copies at a time.
  static bool serves(const AttentionSpec& spec);
  /// What the workload's queries see: all, or what is in their window.
  LoadList(const Gpu& gpu, const Workload& workload, const BatchArrays& arrays);
  std::int64_t bytes() const { return num_tokens_ * (k_token_bytes_ + v_token_bytes_); }

 private:
  friend class Gpu;
  std::optional<DeviceBuffer> entries_;
  std::int64_t num_tokens_ = 0;
  [[maybe_unused]] std::int32_t num_entries_ = 0;  // nobody reads it in builds without CUDA
  std::int32_t k_token_bytes_ = 0, v_token_bytes_ = 0;
};

}  // namespace fovea::bench
