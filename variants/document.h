// Documents packed into one request: a query sees the keys of its own document. Document ids are integers, one a token of every request, in
// any order. Positions outside of a request's tokens have the id of its nearest token.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct Document : VariantBase {
  struct Mask {
    Table<int32_t> document_ids;     // [document_indptr[num_requests]], by position within the request
    Table<int32_t> document_indptr;  // [num_requests + 1] tokens

    template <class I>
    FOVEA_FN auto keep(const Position<I>& at) const {
      return document_of(at, at.q_pos) == document_of(at, at.kv_pos);
    }
    template <class I>
    FOVEA_FN I document_of(const Position<I>& at, I position) const {
      return document_ids[document_indptr[at.request] + max_(I(0), min_(position, at.kv_len - 1))];
    }
    FOVEA_FN constexpr KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(document_ids), FOVEA_REQUIRED_TABLE(document_indptr, request_bounds))
  };
  Mask m;
};

}  // namespace fovea
