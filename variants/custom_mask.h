// A mask given as packed bits (tree attention of speculative decoding): one bit per (query token, key) of a request, row-major, least
// significant bit first, every request starting at a byte of its own. Bit qo_idx * kv_len + kv_pos of the request's bytes says whether the
// query sees the key.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct CustomMask : VariantBase {
  struct Mask {
    static constexpr bool exact_on_tiles = true;
    BitMask mask_bits;           // u8 [mask_indptr[num_requests]]
    Table<int32_t> mask_indptr;  // [num_requests + 1] bytes

    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return mask_bits.test(mask_indptr[at.request], at.kv_len, at.qo_idx, at.kv_pos);
    }
    FOVEA_FN constexpr KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(mask_bits), FOVEA_REQUIRED_TABLE(mask_indptr, request_bounds))
  };
  Mask m;
};

}  // namespace fovea
