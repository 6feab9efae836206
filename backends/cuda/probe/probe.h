// Probe: what this repository's own programs do on a GPU beside the library: take its time, replay calls as graphs, launch kernels of
// their own. Not a part of the library; bench/ and serving/ see this header and nothing else of the backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "fovea/plan.h"

namespace fovea::cuda {

/// The CTAs of a launch, one-dimensional.
struct ProbeGrid {
  int ctas = 1, threads = 1, shared_bytes = 0;
};

/// A stream of its own on one GPU, which can be captured. Everything below happens on it; used by one thread. Errors are DeviceFailed.
class Probe {
 public:
  struct Impl;

  explicit Probe(int device_id);
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  Stream stream() const;
  void synchronise() const;

  int num_multiprocessors() const;
  std::int64_t l2_bytes() const;
  std::int64_t free_bytes() const;  // of the GPU's memory, now
  std::string describe() const;     // "NVIDIA H200, driver of CUDA 13.0"

  /// In stream order.
  void copy_to_device(void* to, const void* from, std::size_t bytes) const;
  void copy_to_host(void* to, const void* from, std::size_t bytes) const;
  void fill(void* memory, unsigned char byte, std::size_t bytes) const;

  Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Calls that were given to the probe's stream once, and can be given to it again as a whole. Borrows the probe.
class ProbeGraph {
 public:
  /// `calls` launches on the probe's stream and waits for nothing.
  ProbeGraph(const Probe& probe, const std::function<void()>& calls);
  ~ProbeGraph();
  ProbeGraph(ProbeGraph&& other) noexcept;
  ProbeGraph& operator=(ProbeGraph&&) = delete;

  void launch() const;

 private:
  const Probe& probe_;
  void* graph_ = nullptr;
};

/// A point in the stream's order whose time is taken.
class ProbeMark {
 public:
  explicit ProbeMark(const Probe& probe);
  ~ProbeMark();
  ProbeMark(const ProbeMark&) = delete;
  ProbeMark& operator=(const ProbeMark&) = delete;

  void set() const;  // after what the stream has been given so far
  void wait() const;

  /// Device time between two marks that were set; waits for the later one.
  static double microseconds(const ProbeMark& begin, const ProbeMark& end);

 private:
  const Probe& probe_;
  void* event_ = nullptr;
};

/// Kernels of one source text, compiled when it is made. Launched like the library's own: each waits for its predecessor before it reads.
class ProbeKernels {
 public:
  /// `source` may include "backends/cuda/probe/...", the backend's device headers and portable/. Throws Unsupported without NVRTC,
  /// CompileFailed with its text.
  ProbeKernels(const Probe& probe, const std::string& label, const std::string& source);
  ~ProbeKernels();

  /// `parameters`: pointers to the kernel's arguments.
  void launch(const char* kernel, const ProbeGrid& grid, void** parameters) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fovea::cuda
