// Loaded kernels: of a prepared attention (CudaModule), and those that need no variant (CacheOps).
#pragma once

#include <memory>
#include <vector>

#include "backends/cuda/compiler.h"
#include "backends/cuda/kernels.h"
#include "src/backend.h"

namespace fovea::cuda {

std::unique_ptr<Module> load_attention(const Gpu& gpu, const Compiler& compiler, const Problem& problem, const Choice& choice);

/// append_kv and merge_states.
class CacheOps {
 public:
  CacheOps(const Gpu& gpu, const Compiler& compiler);
  void append_kv(const AppendParams& params, Stream stream) const;
  void merge_states(const MergeStatesParams& params, Stream stream) const;

 private:
  const Gpu& gpu_;
  std::unique_ptr<CubinModule> module_;
  CUfunction append_kv_ = nullptr;
  CUfunction merge_states_ = nullptr;
};

GpuLimits limits_of(const Gpu& gpu);

/// The programs of a choice, in the order: one per configuration, then merges.
std::vector<CompileRequest> attention_programs(const Problem& problem, const Choice& choice, const GpuLimits& gpu);

CompileRequest cache_ops_program();

}  // namespace fovea::cuda
