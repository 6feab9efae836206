// ALiBi (arXiv 2108.12409): a bias that grows with the distance between query and key, with a slope for every query head.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct Alibi : VariantBase {
  struct Params {
    Table<float> slopes;  // [num_qo_heads], positive: far keys lose
    FOVEA_FIELDS(Params, FOVEA_REQUIRED_TABLE(slopes, qo_heads))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>& at) const {
    return logit + T(p.slopes[at.qo_head]) * T(at.kv_pos - at.q_pos);
  }
  Params p;
};

}  // namespace fovea
