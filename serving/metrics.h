// Metrics: what a replay measured, step by step and in sum.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "serving/reference_check.h"
#include "serving/scheduler.h"

namespace fovea::serving {

/// One step: what was in it and how long its parts took. Making the inputs, hashing the outputs and checking them count nowhere.
struct StepRecord {
  std::int64_t begin_us = 0;  // on the virtual clock
  std::int32_t requests = 0, waiting = 0, prefill_tokens = 0, decode_tokens = 0, hit_tokens = 0, preempted = 0;
  std::int32_t pages_used = 0, pages_idle = 0;
  std::int64_t kv_tokens = 0;
  double plan_us = 0;    // the host's time, or the device's where that plans; 0 in a graph
  double append_us = 0;  // of all layers, like the next; on a GPU the device's time; 0 in a graph
  double run_us = 0;
  double graph_us = 0;   // the device's time of a step that is one graph
  double launch_us = 0;  // GPUs: what the host's calls took that launch work there, which the device's work hides
  double host_us = 0;    // the host's share: plan() where it plans, and launches; on the cpu everything
  double gpu_us = 0;     // the GPU's share
  double flops = 0;      // of the products of visible (query, key) pairs, all layers
  double kv_bytes = 0;   // K and V that the requests see, each read once, all layers

  double step_us() const { return plan_us + append_us + run_us + graph_us; }
};

struct Percentiles {
  double p50 = 0, p90 = 0, p99 = 0;
};

/// The value below which a share of the samples lies, between order statistics linearly. 0 without samples.
double percentile(std::span<const double> sorted, double share);
Percentiles percentiles(std::vector<double> samples);

/// First-token and inter-token latencies as sums of step times: what attention contributes to them.
class Latencies {
 public:
  Latencies(std::span<const ServedRequest> requests);

  /// Steps in order, each with what it took.
  void add(const Step& step, double step_us);

  const std::vector<double>& first_token_us() const { return first_token_us_; }
  const std::vector<double>& inter_token_us() const { return inter_token_us_; }

 private:
  std::span<const ServedRequest> requests_;
  std::size_t num_arrived_ = 0;
  double now_us_ = 0;                  // sum of step times
  std::vector<double> last_token_us_;  // by request: arrival, then the last token
  std::vector<double> first_token_us_, inter_token_us_;
};

/// (query, key) pairs that queries at positions [first, first + count) see with a window; 0: all before them.
double visible_pairs(std::int64_t first, std::int64_t count, std::int64_t window);
/// Tokens that any of them sees.
std::int64_t visible_tokens(std::int64_t first, std::int64_t count, std::int64_t window);

}  // namespace fovea::serving
