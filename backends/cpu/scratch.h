// Every thread's scratch of one module: allocated by load(), used by run().
#pragma once

#include <memory>
#include <vector>

#include "backends/cpu/kernels/attention_simd/kernel.h"
#include "src/backend.h"

namespace fovea::cpu {

class ScratchPool {
 public:
  ScratchPool(const Problem& problem, const Choice& choice, const VariantCode& variant, int num_slots);
  Scratch& operator[](int slot) const { return scratch_[static_cast<std::size_t>(slot)]; }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* memory) const noexcept;
  };
  std::unique_ptr<void, Free> memory_;
  mutable std::vector<Scratch> scratch_;
  std::size_t bytes_ = 0;
};

}  // namespace fovea::cpu
