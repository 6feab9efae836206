// Tanh soft-capping of logits, as in Gemma 2: every logit stays inside (-cap, cap).
#pragma once

#include "portable/variant.h"

namespace fovea {

struct SoftCap : VariantBase {
  struct Params {
    float cap;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED_ABOVE_ZERO(cap))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>&) const {
    return T(p.cap) * math::tanh(logit / T(p.cap));
  }
  Params p;
};

}  // namespace fovea
