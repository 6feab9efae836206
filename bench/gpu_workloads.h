// What `fovea bench` times on a GPU when nobody says otherwise.
#pragma once

#include <string>
#include <vector>

#include "bench/workload.h"

namespace fovea::bench {

struct GpuPoint {
  Workload workload;
  std::string even;  // name of the point whose requests have as many tokens all together, evenly spread; empty: there is none
};

/// Decoding at the heads of Llama 3 8B: lengths, page sizes, head dims, groups, fp8, and skewed batches.
std::vector<GpuPoint> gpu_decode_points();

/// Prompts of 1k to 16k tokens, 16k tokens a batch, equal heads of 64, 128 and 256 dims: what attention libraries are compared with.
std::vector<GpuPoint> gpu_prefill_points();

/// "d128_p16_bf16_g4": head dim, page size (or "ragged"), element type of K and V, query heads per kv head.
std::string shape_of(const AttentionSpec& spec);

}  // namespace fovea::bench
