#include "backends/cuda/run_graph.h"

#include "src/support/check.h"

namespace fovea::cuda {
namespace {

CUkernelNodeParams node_params(const Launch& l, void** parameters) {
  return {.function = l.function,
          .grid_x = static_cast<unsigned>(l.grid),
          .grid_y = 1,
          .grid_z = 1,
          .block_x = static_cast<unsigned>(l.threads),
          .block_y = 1,
          .block_z = 1,
          .shared_bytes = static_cast<unsigned>(l.shared_bytes),
          .parameters = parameters,
          .extra = nullptr,
          .kernel = nullptr,
          .context = nullptr};
}

class TemporaryStream {
 public:
  TemporaryStream() { checked("cuStreamCreate", driver().api.cuStreamCreate(&stream_, kStreamNonBlocking), "a stream to record on"); }
  ~TemporaryStream() { driver().api.cuStreamDestroy(stream_); }
  TemporaryStream(const TemporaryStream&) = delete;
  TemporaryStream& operator=(const TemporaryStream&) = delete;
  CUstream get() const { return stream_; }

 private:
  CUstream stream_ = nullptr;
};

}  // namespace

RunGraph::RunGraph(const Gpu& gpu, std::span<const Launch> kernels, void** parameters)
    : gpu_(gpu), kernels_(kernels.begin(), kernels.end()), nodes_(kernels.size()) {
  const ContextScope scope(gpu.context());
  try {
    record(parameters);
  } catch (...) {
    release();
    throw;
  }
}

RunGraph::~RunGraph() {
  try {
    const ContextScope scope(gpu_.context());
    release();
  } catch (const Error&) {  // NOLINT: the context is gone, and its graphs with it
  }
}

void RunGraph::release() noexcept {
  if (executable_ != nullptr) {
    driver().api.cuGraphExecDestroy(executable_);
  }
  if (graph_ != nullptr) {
    driver().api.cuGraphDestroy(graph_);
  }
}

void RunGraph::record(void** parameters) {
  const DriverApi& api = driver().api;
  const TemporaryStream stream;
  // Recorded, not built: kernels then follow each other as they do on a stream, programmatic dependent launch included.
  checked("cuStreamBeginCapture", api.cuStreamBeginCapture(stream.get(), kCaptureThreadLocal), "");
  for (const Launch& kernel : kernels_) {
    cuda::launch(gpu_, kernel, stream.get(), parameters);
  }
  checked("cuStreamEndCapture", api.cuStreamEndCapture(stream.get(), &graph_), "a graph of {} kernels", kernels_.size());
  find_nodes();
  checked("cuGraphInstantiate", api.cuGraphInstantiate(&executable_, graph_, 0), "a graph of {} kernels", kernels_.size());
  // Now, so that the first launch need not.
  checked("cuGraphUpload", api.cuGraphUpload(executable_, stream.get()), "a graph of {} kernels", kernels_.size());
  checked("cuStreamSynchronize", api.cuStreamSynchronize(stream.get()), "cuda:{}", gpu_.id);
}

void RunGraph::find_nodes() {
  std::vector<CUgraphNode> nodes(kernels_.size());
  std::size_t count = nodes.size();
  checked("cuGraphGetNodes", driver().api.cuGraphGetNodes(graph_, nodes.data(), &count), "");
  FOVEA_ASSERT(count == kernels_.size(), "a graph of {} kernels has {} nodes", kernels_.size(), count);
  for (const CUgraphNode node : nodes) {
    CUkernelNodeParams params{};
    checked("cuGraphKernelNodeGetParams", driver().api.cuGraphKernelNodeGetParams(node, &params), "");
    for (std::size_t i = 0; i < kernels_.size(); ++i) {
      if (params.function == kernels_[i].function) {
        nodes_[i] = node;
      }
    }
  }
  for (std::size_t i = 0; i < kernels_.size(); ++i) {
    FOVEA_ASSERT(nodes_[i] != nullptr, "kernel {} is not in the graph that it was recorded into", kernels_[i].kernel);
  }
}

void RunGraph::set(std::size_t i, const Launch& kernel, void** parameters) {
  kernels_[i] = kernel;
  const CUkernelNodeParams params = node_params(kernel, parameters);
  const CUresult result = driver().api.cuGraphExecKernelNodeSetParams(executable_, nodes_[i], &params);
  if (result != kSuccess) {
    throw_driver_error(result, "cuGraphExecKernelNodeSetParams", fmt::format("{} on cuda:{}", describe(kernel), gpu_.id));
  }
}

void RunGraph::launch(CUstream stream) const {
  if (const CUresult result = driver().api.cuGraphLaunch(executable_, stream); result != kSuccess) {
    std::string all;
    for (const Launch& kernel : kernels_) {
      all += (all.empty() ? "" : "; ") + describe(kernel);
    }
    throw_driver_error(result, "cuGraphLaunch", fmt::format("{}; on cuda:{}", all, gpu_.id));
  }
}

}  // namespace fovea::cuda
