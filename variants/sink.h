// Attention sink, as in gpt-oss: one learned logit per query head that takes part in the softmax and has no value.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct Sink : VariantBase {
  struct Params {
    Table<float> sink;  // [num_qo_heads]
    FOVEA_FIELDS(Params, FOVEA_REQUIRED_TABLE(sink, qo_heads))
  };
  template <class T>
  FOVEA_FN T extra_logit(const Position<>& at) const {
    return T(p.sink[at.qo_head]);
  }
  Params p;
};

}  // namespace fovea
