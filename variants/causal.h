// Causal attention, bottom-right aligned: a query sees the keys at its own position and before.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct Causal : VariantBase {
  struct Mask {
    static constexpr bool exact_on_tiles = true;
    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return at.kv_pos <= at.q_pos;
    }
    FOVEA_FN constexpr KvRange range() const { return {.right = 0, .exact = 1}; }
    FOVEA_FIELDS(Mask)
  };
  Mask m;
};

}  // namespace fovea
