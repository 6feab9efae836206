// GpuStep: what a replay does on a GPU beside the engine's calls, in the order of one stream: makes inputs and digests there (a host would
// take longer for them than the GPU for attention), and takes the device's time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "fovea/engine.h"
#include "serving/values.h"

namespace fovea::serving {

class GpuStep {
 public:
  /// Null where the engine's device is the host. `max_tokens`: of a step; `num_layers`: whose times are kept apart.
  static std::unique_ptr<GpuStep> make(const Engine& engine, std::int64_t max_tokens, std::int32_t num_layers);
  ~GpuStep();

  Stream stream() const;
  void copy_to_host(void* to, const void* from, std::int64_t num_bytes) const;  // done after synchronise()
  void synchronise() const;

  void set_tokens(std::span<const std::uint64_t> token_hashes);
  /// bf16 [tokens, heads, dim]: what values.fill() makes on the host.
  void make(const Values& values, std::int32_t heads, std::int32_t dim, void* out) const;
  /// Adds the digests of the tokens' rows, multiples of 8 bytes, to the sum. `key` and a row's number are its place.
  void add_digest(const void* rows, std::int64_t row_bytes, std::uint64_t key) const;
  std::uint64_t digest() const;  // the sum; waits

  /// What `calls` launch on the stream, to be launched again as a whole. Once.
  void capture(const std::function<void()>& calls);
  bool has_graph() const;
  void launch_graph() const;

  enum class Mark : std::uint8_t { begin, appended, end };
  void mark(std::int32_t layer, Mark mark) const;
  /// Of the latest step; wait.
  double append_us(std::int32_t layer) const;
  double run_us(std::int32_t layer) const;

  /// Around the whole of a step, or its plan.
  enum class StepMark : std::uint8_t { begin, end };
  void mark_step(StepMark mark) const;
  double step_us() const;  // between the latest two; waits

 private:
  struct Impl;
  explicit GpuStep(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The kernels, as they are compiled at run time.
const char* gpu_step_source();

}  // namespace fovea::serving
