// Prefix-LM: the first `prefix_len` tokens of a request are seen by all of its queries; the rest is causal.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct PrefixLm : VariantBase {
  struct Mask {
    static constexpr bool exact_on_tiles = true;
    Table<int32_t> prefix_len;  // [num_requests] tokens

    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return (at.kv_pos <= at.q_pos) | (at.kv_pos < prefix_len[at.request]);
    }
    FOVEA_FN constexpr KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED_TABLE(prefix_len, requests))
  };
  Mask m;
};

}  // namespace fovea
