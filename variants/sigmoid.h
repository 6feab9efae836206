// Sigmoid attention (arXiv 2409.04431): the weight of a key is sigmoid(logit + bias), without a softmax. A request's bias is often
// -log(kv_len).
#pragma once

#include "portable/variant.h"

namespace fovea {

struct Sigmoid : VariantBase {
  static constexpr bool use_softmax = false;
  struct Params {
    float bias = 0.0f;
    FOVEA_FIELDS(Params, FOVEA_OPTIONAL(bias))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>&) const {
    return T(1) / (T(1) + math::exp(-(logit + T(p.bias))));
  }
  Params p;
};

}  // namespace fovea
