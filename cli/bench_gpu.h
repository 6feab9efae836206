// `fovea bench decode|prefill` on a GPU: device times of chains of calls, against kernels that do nothing but read, or multiply.
#pragma once

#include <string>
#include <vector>

#include "cli/results.h"
#include "fovea/engine.h"

namespace fovea::cli {

struct GpuBenchOptions {
  std::vector<std::string> workloads;  // empty: those of bench/gpu_workloads.h
  int rounds = 15;
};

/// Both return the exit code: 1 when the load-only kernel was too slow to be compared with.
int bench_decode_on_gpu(const Engine& engine, const GpuBenchOptions& options, Results& results);
int bench_prefill_on_gpu(const Engine& engine, const GpuBenchOptions& options, Results& results);

}  // namespace fovea::cli
