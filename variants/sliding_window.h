// Causal sliding window: a query sees itself, `window_left` keys before it and the first `num_sink_tokens` keys of the request.
// window_left as in FlashInfer: keys to the left. The sink tokens are those of StreamingLLM (arXiv 2309.17453).
#pragma once

#include "portable/variant.h"

namespace fovea {

struct SlidingWindow : VariantBase {
  struct Mask {
    int32_t window_left;
    int32_t num_sink_tokens = 0;

    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return (at.kv_pos <= at.q_pos) & ((at.q_pos - at.kv_pos <= window_left) | (at.kv_pos < num_sink_tokens));
    }
    FOVEA_FN constexpr KvRange range() const { return {.left = window_left, .right = 0, .num_sink = num_sink_tokens, .exact = 1}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(window_left), FOVEA_OPTIONAL(num_sink_tokens))
  };
  Mask m;
};

}  // namespace fovea
