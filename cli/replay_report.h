// What `fovea replay` says: a table for people, keys for scripts and for python -m fovea.report.
#pragma once

#include <cstdint>
#include <string>

#include "cli/results.h"
#include "serving/replay.h"

namespace fovea::cli {

/// What the device can do at most, measured in the same run. 0: not measured.
struct Ceilings {
  double read_gb_per_s = 0;
  double fma_gflop_per_s = 0;
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
