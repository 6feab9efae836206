#include "backends/cuda/shipped.h"

#include <algorithm>

#include "backends/builtin_variants.h"
#include "backends/cuda/ahead.h"
#include "backends/cuda/module.h"
#include "backends/cuda/planner.h"

namespace fovea::cuda {
namespace {

/// Layers of the models in serving/model.cc, with tensor parallelism too where that changes heads alone. A test there finds a model that is
/// missing here.
struct ShippedLayer {
  const char* variant;
  std::int32_t num_qo_heads, num_kv_heads, head_dim;
};
constexpr ShippedLayer kLayers[] = {
    {"causal", 4, 2, 64},                     // tiny
    {"causal", 32, 8, 128},                   // llama-3.1, qwen3
    {"sliding_window", 32, 8, 128},           // mistral
    {"sliding_window", 32, 16, 128},          // gemma-3-27b
    {"sliding_window", 16, 8, 256},           // gemma-3-12b
    {"sliding_window+soft_cap", 16, 8, 256},  // gemma-2
    {"sliding_window+sink", 64, 8, 64},       // gpt-oss
};
constexpr DType kKvTypes[] = {DType::bf16, DType::e4m3};

}  // namespace

const ShippedCubin* find_shipped(const jit::Digest& digest, int driver_version) {
  const ShippedCubins shipped = shipped_cubins();
  if (driver_version > 0 && shipped.major > driver_version / 1000) {
    return nullptr;
  }
  const auto found = std::find_if(shipped.cubins.begin(), shipped.cubins.end(), [&](const ShippedCubin& c) { return c.digest == digest; });
  return found == shipped.cubins.end() ? nullptr : &*found;
}

std::vector<CompileRequest> shipped_requests(std::string_view architecture) {
  const GpuLimits gpu = limits_of_architecture(architecture);
  std::vector<CompileRequest> requests{cache_ops_program(), planner_program()};
  for (const ShippedLayer& layer : kLayers) {
    for (const DType kv : kKvTypes) {
      const AttentionSpec spec{.num_qo_heads = layer.num_qo_heads,
                               .num_kv_heads = layer.num_kv_heads,
                               .head_dim_qk = layer.head_dim,
                               .k_dtype = kv,
                               .v_dtype = kv,
                               .kv_quant = kv == DType::bf16 ? KvQuant::none : KvQuant::tensor,
                               .variant = layer.variant};
      for (const Problem& problem : problems_of(spec)) {
        const Choice choice = choice_for(problem, builtin_variant(layer.variant), gpu);
        for (CompileRequest& request : attention_programs(problem, choice, gpu)) {
          requests.push_back(std::move(request));
        }
      }
    }
  }
  drop_repeated(requests, architecture);
  return requests;
}

}  // namespace fovea::cuda
