// What `fovea replay` says: a table for people, keys for scripts and for python -m fovea.report.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "cli/results.h"
#include "serving/replay.h"

namespace fovea::cli {

/// What the device can do at most, measured before and after the steps. 0: not measured.
struct Ceilings {
  double read_gb_per_s = 0;
  double fma_gflop_per_s = 0;
  std::string fma;  // which multiply-adds: "fma_f32_avx2", "dot_bf16_avx512", "mma_bf16"

  void raise(const Ceilings& other) {
    read_gb_per_s = std::max(read_gb_per_s, other.read_gb_per_s);
    fma_gflop_per_s = std::max(fma_gflop_per_s, other.fma_gflop_per_s);
  }
};

/// Everything that is known about a replay once it has ended.
struct ReplaySummary {
  const serving::Trace& trace;
  const serving::ReplayOptions& options;
  const serving::Replay& replay;
  serving::ReplayResult result;
  Ceilings ceilings;
  double wall_s = 0;
  bool interrupted = false;
};

Json json_of(const ReplaySummary& summary);
std::string text_of(const ReplaySummary& summary);

}  // namespace fovea::cli
