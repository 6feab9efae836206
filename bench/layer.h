// Layer: a workload with tensors, prepared and planned, ready to run as often as one likes. Inputs are random.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "bench/batch_arrays.h"
#include "bench/workload.h"
#include "fovea/engine.h"

namespace fovea::bench {

/// Page-aligned memory in huge pages where the system has them, filled with random numbers of a dtype.
class RandomMemory {
 public:
  RandomMemory(DType dtype, std::int64_t count, std::uint64_t seed);
  std::byte* data() const { return memory_.get(); }
  std::int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::int64_t bytes_ = 0;
};

class Layer {
 public:
  /// `kv_copies`: run(i) reads copy i % kv_copies, so that caches hold nothing of it.
  /// Throws what prepare() and plan() throw, and InvalidArgument when the copies don't fit into the machine's memory.
  Layer(const Engine& engine, const Workload& workload, int kv_copies);

  void run(int copy);

  /// All bytes of K and V of a copy: what a perfect decode reads.
  std::span<const std::byte> kv_bytes(int copy) const;
  const Workload& workload() const { return workload_; }

 private:
  Workload workload_;
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

/// Bytes of K and V that a step reads at least.
std::int64_t kv_bytes_of(const Workload& workload);

}  // namespace fovea::bench
