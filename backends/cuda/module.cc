#include "backends/cuda/module.h"

#include <algorithm>
#include <array>

#include "backends/cuda/kernels/append_kv/params.h"
#include "backends/cuda/kernels/merge_states/params.h"
#include "backends/cuda/memory.h"
#include "src/support/check.h"

namespace fovea::cuda {
namespace {

constexpr int kMergeThreads = 128;
constexpr int kRowsOfMergeCta = 4;  // a warp each
constexpr int kCtasOfMerge = 2;     // of a multiprocessor

constexpr std::string_view kMergeSource = R"(extern "C" __global__ void __launch_bounds__(128, 8)
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
  int threads, shared_bytes;
};

class CudaModule : public Module {
 public:
  CudaModule(const Gpu& gpu, std::vector<AttentionLaunch> attention, std::unique_ptr<CubinModule> merge)
      : gpu_(gpu),
        attention_(std::move(attention)),
        merge_(std::move(merge)),
        merge_partials_(merge_->function("merge_partials")),
        compose_levels_(merge_->function("compose_levels")) {}

  void run(const KernelParams& params, const RunPlan& plan, Stream stream) const override {
    const ContextScope scope(gpu_.context());
    const bool capturing = is_capturing(cu_stream(stream));
    const WorkBounds& work = capturing ? plan.most : plan.work;
    if (!capturing) {  // what comes before a replay is for its caller to say
      plan.device_plan->continue_on(stream);
    }
    int config = 0;
    void* parameters[] = {const_cast<KernelParams*>(&params), const_cast<void*>(params.mask), const_cast<void*>(params.variant_params),
                          &config};
    for (const AttentionLaunch& a : attention_) {
      launch_some(
          {.kernel = a.name, .function = a.function, .grid = params.num_workers, .threads = a.threads, .shared_bytes = a.shared_bytes},
          work.items[config], stream, parameters);
      ++config;
    }
    const int ctas = kCtasOfMerge * gpu_.num_multiprocessors;
    launch_some({.kernel = "merge_partials", .function = merge_partials_, .grid = ctas, .threads = kMergeThreads, .shared_bytes = 0},
                work.merges, stream, parameters);
    launch_some({.kernel = "compose_levels", .function = compose_levels_, .grid = 2 * ctas, .threads = kMergeThreads, .shared_bytes = 0},
                work.composed_rows, stream, parameters);
  }

 private:
  /// A CTA for each of `count` pieces of work, at most l.grid; nothing where there are none.
  void launch_some(Launch l, int count, Stream stream, void** parameters) const {
    if (count > 0) {
      l.grid = std::min(l.grid, count);
      launch(gpu_, l, cu_stream(stream), parameters);
    }
  }

  const Gpu& gpu_;
  std::vector<AttentionLaunch> attention_;  // in the order of the choice's configurations
  std::unique_ptr<CubinModule> merge_;
  CUfunction merge_partials_;
  CUfunction compose_levels_;
};

CompileRequest request_for(const jit::VariantProgram& variant, std::string_view kernel, std::string_view architecture,
                           std::string_view include, std::string_view last_lines) {
  const std::array<std::string_view, 1> includes{include};
  return {
      .label = fmt::format("{}-{}", kernel, variant.name),
      .program = jit::generate_program({.variant = variant,
                                        .target = fmt::format("{} {}", kernel, architecture),
                                        .source_name = "source.cu",
                                        .includes = includes,
                                        .last_lines = last_lines,
                                        .folders = kDeviceFolders}),
      .variant = variant.name,
      .tolerates_spills = std::any_of(variant.parts.begin(), variant.parts.end(), [](const jit::VariantPart& p) { return !p.builtin; })};
}

}  // namespace

GpuLimits limits_of(const Gpu& gpu) { return {.num_multiprocessors = gpu.num_multiprocessors, .max_shared_bytes = gpu.max_shared_bytes}; }

std::vector<CompileRequest> attention_programs(const Problem& problem, const Choice& choice, const GpuLimits& gpu,
                                               std::string_view architecture) {
  const jit::VariantProgram variant = jit::resolve_variant(problem.spec.variant);
  const AttentionKernel& kernel = kernel_named(choice.kernel);
  std::vector<CompileRequest> requests;
  for (const KernelConfig& config : choice.configs) {
    const KernelCode code = kernel.code(problem, gpu, config);
    requests.push_back(request_for(variant, kernel.name, architecture, code.include, source_of(code)));
  }
  requests.push_back(request_for(variant, "merge", architecture, "backends/cuda/kernels/merge/kernel.cuh", kMergeSource));
  return requests;
}

std::unique_ptr<Module> load_attention(const Gpu& gpu, const Compiler& compiler, const Problem& problem, const Choice& choice) {
  const GpuLimits limits = limits_of(gpu);
  const std::vector<CompileRequest> requests = attention_programs(problem, choice, limits, gpu.architecture());
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
                           .shared_bytes = code.shared_bytes};
    launch.function = launch.module->function("attention", code.shared_bytes);
    attention.push_back(std::move(launch));
  }
  auto merge = std::make_unique<CubinModule>(gpu, cubins.back().bytes, requests.back().label);
  return std::make_unique<CudaModule>(gpu, std::move(attention), std::move(merge));
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
