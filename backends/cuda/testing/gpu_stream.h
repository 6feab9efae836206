// Test support: streams and graphs of the machine's own driver, which the library is given by its callers and never makes.
#pragma once

#include <functional>
#include <stdexcept>

#include "fovea/plan.h"

namespace fovea::cuda::testing {

/// Launches recorded from a stream, to be repeated.
class GpuGraph {
 public:
  explicit GpuGraph(void* executable) : executable_(executable) {}
  ~GpuGraph();
  GpuGraph(GpuGraph&& other) noexcept : executable_(other.executable_) { other.executable_ = nullptr; }
  GpuGraph& operator=(GpuGraph&&) = delete;
  void launch(Stream stream) const;

 private:
  void* executable_;
};

/// A stream of the first GPU, whose context an engine has made.
class GpuStream {
 public:
  GpuStream();
  ~GpuStream();
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;
  Stream get() const { return {stream_}; }
  GpuGraph capture(const std::function<void()>& record) const;

 private:
  void* stream_ = nullptr;
};

}  // namespace fovea::cuda::testing
