// Layer: a workload with tensors, prepared and planned, ready to run as often as one likes. Inputs are random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/batch_arrays.h"
#include "bench/gpu.h"
#include "bench/workload.h"
#include "fovea/engine.h"

namespace fovea::bench {

/// Random bits that become elements with exponents in a small range around 1, of both signs: (bits & keep) | set, 64 bits at a time.
struct ElementBits {
  std::uint64_t keep, set;
};
ElementBits element_bits_of(DType dtype);

/// Memory filled with random numbers of a dtype: page-aligned on the host, in huge pages where the system has them, or a GPU's.
class RandomMemory {
 public:
  RandomMemory(DType dtype, std::int64_t count, std::uint64_t seed);
  RandomMemory(const Gpu& gpu, DType dtype, std::int64_t count, std::uint64_t seed);
  std::byte* data() const { return device_ ? static_cast<std::byte*>(device_->data()) : memory_.get(); }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::optional<DeviceBuffer> device_;
  std::int64_t bytes_ = 0;
};

class Layer {
 public:
  /// `kv_copies`: run(i) reads copy i % kv_copies, so that caches hold nothing of it.
  /// Throws what prepare() and plan() throw, and InvalidArgument when the copies don't fit into the machine's memory.
  /// `gpu`: of a GPU's engine; everything then happens on its stream.
  Layer(const Engine& engine, const Workload& workload, int kv_copies, const Gpu* gpu = nullptr);

  void run(int copy);

  /// All bytes of K and V of a copy: what a perfect decode reads. On the engine's device.
  std::span<const std::byte> kv_bytes(int copy) const;
  /// Of the first format.
  const KvCache& cache(int copy) const { return caches_[static_cast<std::size_t>(copy) % kv_.size() * workload_.spec.formats.size()]; }
  const Workload& workload() const { return workload_; }
  const BatchArrays& arrays() const { return arrays_; }
  std::string explain() const { return attention_.explain(); }

 private:
  RandomMemory random(DType dtype, std::int64_t count, std::uint64_t seed) const;

  Workload workload_;
  const Gpu* gpu_;
  Device device_;
  WorkloadValues values_;
  BatchArrays arrays_;
  Attention attention_;
  Plan plan_;
  std::vector<RandomMemory> kv_;
  std::vector<KvCache> caches_;  // [copy][format]
  RandomMemory q_;
  RandomMemory o_;
};

/// Floating-point operations of the products q . k and p . v, masked-out pairs of causal attention not counted. Full and windowed masks as
/// far as their names say so.
double flops_of(const Workload& workload);

/// Tokens that a query sees in a sliding window, as far as the mask's names say so; 0: all before it.
std::int64_t window_of(const Workload& workload);

/// Bytes of K and V of a step's tokens.
std::int64_t kv_bytes_of(const Workload& workload);

}  // namespace fovea::bench
