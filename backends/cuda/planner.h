// Plans written by the GPU: one launch for a batch and its masks.
#pragma once

#include <memory>
#include <string_view>

#include "backends/cuda/compiler.h"
#include "portable/planner_params.h"
#include "src/backend.h"

namespace fovea::cuda {

/// The planner kernel, loaded.
class Planner {
 public:
  Planner(const Gpu& gpu, const Compiler& compiler);
  /// Launches. Masks are at most kMaxMasksOfLaunch; scratch has room for each.
  void plan(const PlannerParams& params, Stream stream) const;

 private:
  const Gpu& gpu_;
  std::unique_ptr<CubinModule> module_;
  CUfunction general_ = nullptr, simple_ = nullptr, small_ = nullptr;
};

CompileRequest planner_program();

}  // namespace fovea::cuda
