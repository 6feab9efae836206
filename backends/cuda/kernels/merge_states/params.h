// What merge_states' kernel is given: MergeStatesParams (src/backend.h) as device code can read it.
#pragma once

#include "portable/params.h"

namespace fovea::cuda::merge_states {

struct Params {
  struct In {
    QView o;
    const float* lse;  // natural
    int64_t lse_token_stride, lse_head_stride;
  };
  In states[64];  // kMaxStates
  OutView out;
  int32_t num_states, num_tokens, num_heads, head_dim;
};

inline constexpr int32_t kWarps = 4;

}  // namespace fovea::cuda::merge_states
