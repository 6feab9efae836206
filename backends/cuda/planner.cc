#include "backends/cuda/planner.h"

#include <algorithm>

#include "backends/cuda/kernels/plan/params.h"
#include "backends/cuda/memory.h"

namespace fovea::cuda {
namespace {

constexpr std::string_view kSource = R"(// fovea: the planner
#include "backends/cuda/kernels/plan/kernel.cuh"

#define FOVEA_PLAN(name, batches)                                                    \
  extern "C" __global__ void __launch_bounds__(fovea::cuda::plan::kThreads, 1)       \
  name(const __grid_constant__ fovea::PlannerParams params, int shared_bytes) {      \
    fovea::cuda::plan::plan<fovea::cuda::plan::Batches::batches>(params, shared_bytes); \
  }
FOVEA_PLAN(plan, general)
FOVEA_PLAN(plan_simple, simple)
FOVEA_PLAN(plan_small, small)
)";

}  // namespace

CompileRequest planner_program() {
  std::vector<std::string_view> folders{"fovea/", "portable/"};
  folders.insert(folders.end(), std::begin(kDeviceFolders), std::end(kDeviceFolders));
  return {.label = "planner",
          .program = {.source_name = "source.cu",
                      .source = std::string(kSource),
                      .headers = {},
                      .embedded = jit::embedded_sources_under(folders)},
          .variant = {}};
}

Planner::Planner(const Gpu& gpu, const Compiler& compiler) : gpu_(gpu) {
  const CompileRequest request = planner_program();
  const std::vector<jit::Artefact> cubins = compiler.compile({&request, 1}, "planner");
  module_ = std::make_unique<CubinModule>(gpu, cubins[0].bytes, request.label);
  general_ = module_->function("plan", gpu.max_shared_bytes);
  simple_ = module_->function("plan_simple", gpu.max_shared_bytes);
  small_ = module_->function("plan_small", gpu.max_shared_bytes);
}

void Planner::plan(const PlannerParams& params, Stream stream) const {
  int shared_bytes = static_cast<int>(
      std::min<std::int64_t>(gpu_.max_shared_bytes, plan::kArraysAt + ceil_div<std::int64_t>(params.scratch_bytes, 16) * 16));
  const int writers =
      params.write_groups ? static_cast<int>(std::clamp(ceil_div(params.max_row_groups, plan::kGroupsOfBlock), 1, plan::kMaxWriters)) : 0;
  void* parameters[] = {const_cast<PlannerParams*>(&params), &shared_bytes};
  const ContextScope scope(gpu_.context());
  launch(gpu_,
         {.kernel = "plan",
          .function = !params.simple                                                          ? general_
                      : params.small && plan::kArraysAt + params.groups_bytes <= shared_bytes ? small_
                                                                                              : simple_,
          .grid = params.num_masks + writers,
          .threads = plan::kThreads,
          .shared_bytes = shared_bytes},
         cu_stream(stream), parameters);
}

}  // namespace fovea::cuda
