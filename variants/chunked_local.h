// Chunked local attention, as in Llama 4: positions are cut into chunks of `chunk_size`; a query sees the keys of its own chunk, up to
// itself.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct ChunkedLocal : VariantBase {
  struct Mask {
    static constexpr bool exact_on_tiles = true;
    int32_t chunk_size;

    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      // The query's division alone: a loop over keys divides once. The end of the chunk is never before the query.
      return (at.kv_pos <= at.q_pos) & (at.kv_pos >= at.q_pos / chunk_size * chunk_size);
    }
    FOVEA_FN constexpr KvRange range() const { return {.right = 0, .exact = 1, .chunk = chunk_size}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED_AT_LEAST(chunk_size, 1))
  };
  Mask m;
};

}  // namespace fovea
