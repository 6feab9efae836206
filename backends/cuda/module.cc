#include "backends/cuda/module.h"

#include <algorithm>
#include <array>

#include "backends/cuda/kernels/append_kv/params.h"
#include "backends/cuda/kernels/merge_states/params.h"
#include "backends/cuda/memory.h"
#include "backends/cuda/run_graph.h"
#include "src/support/check.h"
#include "src/support/log.h"

namespace fovea::cuda {
namespace {

constexpr int kMergeThreads = 128;
constexpr int kRowsOfMergeCta = 4;                   // a warp each
constexpr int kCtasOfMerge = 2, kCtasOfCompose = 8;  // of a multiprocessor

constexpr int kMostMergesCounted = 1 << 16;  // more fill any GPU

constexpr std::string_view kMergeSource = R"(extern "C" __global__ void __launch_bounds__(128, 4)
merge_partials(const __grid_constant__ fovea::KernelParams params, const __grid_constant__ Rule::Mask mask,
               const __grid_constant__ Rule::Params variant_params) {
  fovea::cuda::merge::merge_partials<Rule>(params, mask, variant_params);
}
extern "C" __global__ void __launch_bounds__(128, 8)
compose_levels(const __grid_constant__ fovea::KernelParams params, const __grid_constant__ Rule::Mask mask,
               const __grid_constant__ Rule::Params variant_params) {
  fovea::cuda::merge::compose_levels<Rule>(params, mask, variant_params);
})";

constexpr std::string_view kCacheOpsSource = R"(// fovea: append_kv and merge_states
#include "backends/cuda/kernels/append_kv/kernel.cuh"
#include "backends/cuda/kernels/merge_states/kernel.cuh"

// With 8 CTAs asked for: asked for nothing, ptxas aims at 16 for sm_90 and spills.
extern "C" __global__ void __launch_bounds__(128, 8) append_kv(const __grid_constant__ fovea::cuda::append_kv::Params params) {
  fovea::cuda::append_kv::append(params);
}
extern "C" __global__ void __launch_bounds__(128, 8) merge_states(const __grid_constant__ fovea::cuda::merge_states::Params params) {
  fovea::cuda::merge_states::merge(params);
}
)";

const AttentionKernel& kernel_named(std::string_view name) {
  for (const AttentionKernel& kernel : attention_kernels()) {
    if (kernel.name == name) {
      return kernel;
    }
  }
  FOVEA_ASSERT(false, "kernel '{}' was chosen and is not in the list", name);
}

/// A kernel's name in errors: "attention_sm80 16x64".
struct AttentionLaunch {
  std::string name;
  std::unique_ptr<CubinModule> module;
  CUfunction function;
  int threads, shared_bytes, ctas;  // CTAs of a multiprocessor
  void (*make_extra)(const KernelParams& params, void* extra);
};

/// The kernels of a run in their order: attention per configuration, merges, composed rows.
constexpr std::size_t kMaxLaunches = kMaxKernelConfigs + 2;

/// A plan on the device, with a graph for every set of kernels that a run may need.
class CudaPlan : public DevicePlan {
 public:
  CudaPlan(const Gpu& gpu, std::size_t bytes, std::span<const Launch> kernels, bool composed) : plan_(make_device_plan(gpu, bytes)) {
    KernelParams params{};
    alignas(16) std::byte no_values[kMaxVariantBytes] = {};
    int config = 0;
    alignas(64) std::byte no_extra[kMaxExtraBytes] = {};
    void* parameters[] = {&params, no_values, no_values, &config, no_extra};
    try {
      for (unsigned used = 1; used < 1u << kernels.size(); ++used) {
        const bool composes = (used >> (kernels.size() - 1) & 1u) != 0;
        if (composes == composed) {
          std::vector<Launch> some;
          for (std::size_t i = 0; i < kernels.size(); ++i) {
            if ((used >> i & 1u) != 0) {
              some.push_back(kernels[i]);
            }
          }
          graphs_[used] = std::make_unique<RunGraph>(gpu, some, parameters);
        }
      }
    } catch (const DeviceFailed& error) {
      log_once(fmt::format("kernels are launched one by one, which takes the host longer: {}", error.what()));
    }
  }

  void* memory() const override { return plan_->memory(); }
  void publish(const void* plan, std::span<const PlanBytes> parts, Stream stream) override { plan_->publish(plan, parts, stream); }
  void continue_on(Stream stream) override { plan_->continue_on(stream); }

  /// Of the kernels whose bits are set; null where each is launched by itself.
  RunGraph* graph(unsigned used) { return graphs_[used].get(); }

 private:
  std::unique_ptr<DevicePlan> plan_;
  std::array<std::unique_ptr<RunGraph>, 1u << kMaxLaunches> graphs_;
};

class CudaModule : public Module {
 public:
  CudaModule(const Gpu& gpu, const Problem& problem, const Choice& choice, std::vector<AttentionLaunch> attention,
             std::unique_ptr<CubinModule> merge)
      : gpu_(gpu), composed_(problem.composed()), attention_(std::move(attention)), merge_(std::move(merge)) {
    for (const AttentionLaunch& a : attention_) {
      const KernelConfig& config = choice.configs[kernels_.size()];
      merge_rows_ = std::max(merge_rows_, config.tile_q);
      // Ranges have a CTA a worker. A list's items may be anybody's: it fills the GPU, however few CTAs the other configuration has.
      const bool fills = config.form == PlanForm::list && problem.options.num_workers == 0;
      const int grid = fills ? std::max(choice.num_workers, a.ctas * gpu_.num_multiprocessors) : choice.num_workers;
      kernels_.push_back({.kernel = a.name, .function = a.function, .grid = grid, .threads = a.threads, .shared_bytes = a.shared_bytes});
    }
    for (const auto& [name, ctas] : {std::pair{"merge_partials", kCtasOfMerge}, std::pair{"compose_levels", kCtasOfCompose}}) {
      const int grid = ctas * gpu_.num_multiprocessors;
      kernels_.push_back({.kernel = name, .function = merge_->function(name), .grid = grid, .threads = kMergeThreads, .shared_bytes = 0});
    }
  }

  std::unique_ptr<DevicePlan> new_device_plan(std::size_t bytes) const override {
    return std::make_unique<CudaPlan>(gpu_, bytes, kernels_, composed_);
  }

  /// Launches the kernels that have work, with a CTA for each piece of it at most.
  // Perf: H200's host, driver 580.159.04, 2026-11-23, the stream drained: one launch 3.1 us, two 6.1 us; as a graph that is given new
  // arguments 2.0 and 2.1 us. On the GPU a run of 5 us and more takes as long either way, but up to 1 us longer right behind another launch
  // of ours, which lets a launch overlap with its end and not a graph; long prefills and single requests end 2 % earlier without that
  // overlap.
  bool run(const KernelParams& params, const RunPlan& plan, Stream stream) const override {
    const ContextScope scope(gpu_.context());
    const CUstream on = cu_stream(stream);
    const bool capturing = is_capturing(on);
    if (!capturing) {  // what comes before a replay is for its caller to say
      plan.device_plan->continue_on(stream);
    }
    const std::array<int, kMaxLaunches> pieces = pieces_of(capturing ? plan.most : plan.work);
    unsigned used = 0;
    for (std::size_t i = 0; i < kernels_.size(); ++i) {
      used |= pieces[i] > 0 ? 1u << i : 0u;
    }
    RunGraph* graph = capturing ? nullptr : static_cast<CudaPlan*>(plan.device_plan)->graph(used);
    int config = 0;
    alignas(64) std::byte extra[kMaxExtraBytes];
    void* parameters[] = {const_cast<KernelParams*>(&params), const_cast<void*>(params.mask), const_cast<void*>(params.variant_params),
                          &config, extra};
    std::size_t node = 0;
    for (std::size_t i = 0; i < kernels_.size(); ++i) {
      if (pieces[i] > 0) {
        Launch kernel = kernels_[i];
        kernel.grid = std::min(kernel.grid, pieces[i]);
        config = static_cast<int>(i);
        if (i < attention_.size() && attention_[i].make_extra != nullptr) {
          attention_[i].make_extra(params, extra);
        }
        if (graph != nullptr) {
          graph->set(node++, kernel, parameters);
        } else {
          launch(gpu_, kernel, on, parameters);
        }
      }
    }
    if (graph != nullptr) {
      graph->launch(on);
    }
    return capturing;
  }

 private:
  std::array<int, kMaxLaunches> pieces_of(const WorkBounds& work) const {
    std::array<int, kMaxLaunches> pieces{};
    std::copy_n(work.items, attention_.size(), pieces.begin());
    pieces[attention_.size()] = std::min(work.merges, kMostMergesCounted) * merge_rows_;
    pieces[attention_.size() + 1] = composed_ ? work.composed_rows : 0;
    return pieces;
  }

  const Gpu& gpu_;
  bool composed_;
  std::vector<AttentionLaunch> attention_;  // in the order of the choice's configurations
  std::unique_ptr<CubinModule> merge_;
  std::vector<Launch> kernels_;  // with the largest grids
  std::int32_t merge_rows_ = 1;  // of a merge at most, each of which may have a CTA
};

/// The same text for every architecture: code for one may run on another (older_architectures()).
CompileRequest request_for(const jit::VariantProgram& variant, std::string_view kernel, std::string_view include,
                           std::string_view last_lines) {
  const std::array<std::string_view, 1> includes{include};
  return {
      .label = fmt::format("{}-{}", kernel, variant.name),
      .program = jit::generate_program({.variant = variant,
                                        .target = kernel,
                                        .source_name = "source.cu",
                                        .includes = includes,
                                        .last_lines = last_lines,
                                        .folders = kDeviceFolders}),
      .variant = variant.name,
      .tolerates_spills = std::any_of(variant.parts.begin(), variant.parts.end(), [](const jit::VariantPart& p) { return !p.builtin; })};
}

}  // namespace

GpuLimits limits_of(const Gpu& gpu) {
  return {.num_multiprocessors = gpu.num_multiprocessors,
          .max_shared_bytes = gpu.max_shared_bytes,
          .architecture = gpu.major == 9 ? "sm_90a" : ""};
}

std::vector<CompileRequest> attention_programs(const Problem& problem, const Choice& choice, const GpuLimits& gpu) {
  const jit::VariantProgram variant = jit::resolve_variant(problem.spec.variant);
  const AttentionKernel& kernel = kernel_named(choice.kernel);
  std::vector<CompileRequest> requests;
  for (const KernelConfig& config : choice.configs) {
    const KernelCode code = kernel.code(problem, gpu, config);
    const std::string name =
        fmt::format("{}-{}x{}-{}", kernel.name, config.tile_q, config.tile_kv, config.form == PlanForm::ranges ? "ranges" : "list");
    requests.push_back(request_for(variant, name, code.include, source_of(code)));
  }
  requests.push_back(request_for(variant, "merge", "backends/cuda/kernels/merge/kernel.cuh", kMergeSource));
  return requests;
}

std::unique_ptr<Module> load_attention(const Gpu& gpu, const Compiler& compiler, const Problem& problem, const Choice& choice) {
  const GpuLimits limits = limits_of(gpu);
  const std::vector<CompileRequest> requests = attention_programs(problem, choice, limits);
  const std::vector<jit::Artefact> cubins =
      compiler.compile(requests, fmt::format("{} for variant {}", choice.kernel, problem.spec.variant.name));
  const AttentionKernel& kernel = kernel_named(choice.kernel);
  std::vector<AttentionLaunch> attention;
  for (std::size_t i = 0; i < choice.configs.size(); ++i) {
    const KernelConfig& config = choice.configs[i];
    const KernelCode code = kernel.code(problem, limits, config);
    AttentionLaunch launch{.name = fmt::format("{} {}x{}", kernel.name, config.tile_q, config.tile_kv),
                           .module = std::make_unique<CubinModule>(gpu, cubins[i].bytes, requests[i].label),
                           .function = nullptr,
                           .threads = code.threads,
                           .shared_bytes = code.shared_bytes,
                           .ctas = code.ctas,
                           .make_extra = code.make_extra};
    launch.function = launch.module->function("attention", code.shared_bytes);
    attention.push_back(std::move(launch));
  }
  auto merge = std::make_unique<CubinModule>(gpu, cubins.back().bytes, requests.back().label);
  return std::make_unique<CudaModule>(gpu, problem, choice, std::move(attention), std::move(merge));
}

CompileRequest cache_ops_program() {
  std::vector<std::string_view> folders{"fovea/", "portable/"};
  folders.insert(folders.end(), std::begin(kDeviceFolders), std::end(kDeviceFolders));
  return {.label = "cache_ops",
          .program = {.source_name = "source.cu",
                      .source = std::string(kCacheOpsSource),
                      .headers = {},
                      .embedded = jit::embedded_sources_under(folders)},
          .variant = {},
          .exact_division = true};  // append_kv gives the same bits on every backend
}

CacheOps::CacheOps(const Gpu& gpu, const Compiler& compiler) : gpu_(gpu) {
  const CompileRequest request = cache_ops_program();
  const std::vector<jit::Artefact> cubins = compiler.compile({&request, 1}, "append_kv and merge_states");
  module_ = std::make_unique<CubinModule>(gpu, cubins[0].bytes, request.label);
  append_kv_ = module_->function("append_kv");
  merge_states_ = module_->function("merge_states");
}

namespace {

/// CTAs for so many rows: as many as keep the GPU busy, each row once where that is less.
int grid_for(const Gpu& gpu, std::int64_t rows) {
  return static_cast<int>(std::clamp<std::int64_t>(ceil_div<std::int64_t>(rows, kRowsOfMergeCta), 1, 16 * gpu.num_multiprocessors));
}

append_kv::Quant quant_of(KvQuant quant) {
  switch (quant) {
    case KvQuant::none:
      return append_kv::Quant::none;
    case KvQuant::tensor:
      return append_kv::Quant::tensor;
    case KvQuant::head:
      return append_kv::Quant::head;
    case KvQuant::token:
      return append_kv::Quant::token;
  }
  FOVEA_ASSERT(false, "KvQuant {}", static_cast<int>(quant));
}

}  // namespace

void CacheOps::append_kv(const AppendParams& p, Stream stream) const {
  if (p.num_tokens == 0) {
    return;
  }
  append_kv::Params params{.k = p.k,
                           .v = p.v,
                           .cache = p.cache,
                           .quant = quant_of(p.quant),
                           .slots_64 = p.slots_64,
                           .num_tokens = p.num_tokens,
                           .num_kv_heads = p.num_kv_heads,
                           .head_dim_qk = p.head_dim_qk,
                           .head_dim_vo = p.head_dim_vo,
                           .num_requests = p.num_requests,
                           .num_pages = p.num_pages,
                           .slots = p.slots,
                           .append_indptr = p.append_indptr,
                           .tables = p.tables,
                           .table = p.table};
  void* parameters[] = {&params};
  const ContextScope scope(gpu_.context());
  launch(gpu_,
         {.kernel = "append_kv",
          .function = append_kv_,
          .grid = grid_for(gpu_, std::int64_t{p.num_tokens} * p.num_kv_heads),
          .threads = kMergeThreads,
          .shared_bytes = 0},
         cu_stream(stream), parameters);
}

void CacheOps::merge_states(const MergeStatesParams& p, Stream stream) const {
  if (p.num_tokens == 0) {
    return;
  }
  merge_states::Params params{
      .states = {}, .out = p.out, .num_states = p.num_states, .num_tokens = p.num_tokens, .num_heads = p.num_heads, .head_dim = p.head_dim};
  static_assert(std::size(params.states) == kMaxStates);
  for (std::int32_t s = 0; s < p.num_states; ++s) {
    const MergeStatesParams::In& in = p.states[s];
    params.states[s] = {.o = in.o, .lse = in.lse, .lse_token_stride = in.lse_token_stride, .lse_head_stride = in.lse_head_stride};
  }
  void* parameters[] = {&params};
  const ContextScope scope(gpu_.context());
  launch(gpu_,
         {.kernel = "merge_states",
          .function = merge_states_,
          .grid = grid_for(gpu_, std::int64_t{p.num_tokens} * p.num_heads),
          .threads = kMergeThreads,
          .shared_bytes = 0},
         cu_stream(stream), parameters);
}

}  // namespace fovea::cuda
