// Kernels of a run as graphs of the backend's own: the driver takes longer for one launch than for a graph of two with new arguments.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backends/cuda/compiler.h"

namespace fovea::cuda {

/// Some kernels, each after the one before it, as one call of the driver. Used by one thread at a time.
class RunGraph {
 public:
  /// `parameters` as any launch of them would get. Throws DeviceFailed.
  RunGraph(const Gpu& gpu, std::span<const Launch> kernels, void** parameters);
  ~RunGraph();
  RunGraph(const RunGraph&) = delete;
  RunGraph& operator=(const RunGraph&) = delete;

  /// Kernel `i`'s grid and arguments from now on; launches on their way keep theirs.
  void set(std::size_t i, const Launch& kernel, void** parameters);
  void launch(CUstream stream) const;

 private:
  void record(void** parameters);
  void find_nodes();
  void release() noexcept;

  const Gpu& gpu_;
  std::vector<Launch> kernels_;
  CUgraph graph_ = nullptr;         // whose nodes name what is set
  std::vector<CUgraphNode> nodes_;  // in the order of the kernels
  CUgraphExec executable_ = nullptr;
};

}  // namespace fovea::cuda
