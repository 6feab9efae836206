// Replay: a trace through the engine, step by step: append, plan once, run every layer, with outputs hashed and some steps checked.
// Everything but the measured times follows from trace and options: the same outputs on every run, with any number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine.h"
#include "serving/metrics.h"
#include "serving/model.h"
#include "serving/reference_check.h"
#include "serving/scheduler.h"
#include "serving/trace.h"

namespace fovea::serving {

struct ReplayOptions {
  Model model;
  EngineOptions engine;
  std::int32_t num_layers = 0;  // 0: one period of the model's windows
  DType kv_dtype = DType::bf16;
  std::uint64_t seed = 1;
  std::int32_t shrink = 1;
  std::int64_t check_steps = 0;  // spread over the run
  bool graphs = false;           // GPUs: all of a step's launches as one graph, captured once
  bool device_plan = false;      // GPUs: plan() launches a planner there, which reads lengths from device memory
  SchedulerOptions scheduling;   // cost_factor is set to `shrink`
};

/// A step's outputs of a layer on the host: bf16 [tokens, num_qo_heads, head_dim_vo]. May be changed: the digest is taken after the call.
using OnOutputs = std::function<void(const Step& step, std::int32_t layer, std::span<std::uint16_t> o)>;

/// What a replay has done so far.
struct ReplayResult {
  SchedulerTotals totals;
  std::vector<StepRecord> steps;
  Percentiles first_token_us, inter_token_us;
  std::vector<double> first_token_samples, inter_token_samples;
  std::uint64_t output_digest = 0;
  std::int64_t checked_steps = 0, checked_pairs = 0, mismatched_steps = 0;
  double worst_error = 0;  // over its bound
  std::string first_mismatch;
  std::vector<CompileRecord> compiled;  // at run time, in prepare() or found on disk by it
  std::int64_t compiles_after_prepare = 0;
  double prepare_us = 0, inputs_us = 0, digest_us = 0, check_us = 0;  // beside the steps
};

class Replay {
 public:
  /// Prepares the engine and every buffer. Throws InvalidArgument and Unsupported.
  Replay(const Trace& trace, const ReplayOptions& options);
  ~Replay();

  /// What the whole trace will take, known before the first step.
  const SchedulerTotals& rehearsed() const;
  std::int64_t num_layers() const;
  std::int64_t kv_cache_bytes() const;   // of all layers
  std::int64_t workspace_bytes() const;  // of the plan
  std::string describe_engine() const;
  std::string explain() const;

  /// Computes the next step. False when there is none.
  bool step(const OnOutputs& on_outputs = {});

  /// So far; sums and percentiles are taken anew.
  ReplayResult result() const;
  const SchedulerTotals& totals() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Bytes of K and V of the whole cache of one layer.
std::int64_t layer_cache_bytes(const ReplayOptions& options);

}  // namespace fovea::serving
