// What load_only.cuh reads. Host and device compile it.
#pragma once

#include "portable/compat.h"

namespace fovea::cuda::probe {

/// Tokens that lie one behind the other in K and in V: a page or a part of one.
struct alignas(8) LoadEntry {
  int32_t slot, num_tokens;  // slot: page * page_size + offset
};

struct LoadParams {
  const LoadEntry* entries;
  const char* k;
  const char* v;
  int32_t num_entries;
  int32_t k_token_bytes, v_token_bytes;  // of all kv heads; multiples of 512
};

/// What a warp copies at a time: 16 bytes a lane.
inline constexpr int32_t kLoadStepBytes = 512;
inline constexpr int32_t kLoadThreads = 256;
inline constexpr int32_t kLoadStageBytes = kLoadThreads * 16;

}  // namespace fovea::cuda::probe
