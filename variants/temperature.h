// Temperature: logits are divided by `temperature`. With `position_scale` they also grow with the query's position, as Llama 4 does for
// long contexts: by 1 + position_scale * log(1 + floor((q_pos + 1) / position_step)).
#pragma once

#include "portable/variant.h"

namespace fovea {

struct Temperature : VariantBase {
  struct Params {
    float temperature = 1.0f;
    float position_scale = 0.0f;
    int32_t position_step = 8192;
    FOVEA_FIELDS(Params, FOVEA_OPTIONAL_ABOVE_ZERO(temperature), FOVEA_OPTIONAL(position_scale), FOVEA_OPTIONAL_AT_LEAST(position_step, 1))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>& at) const {
    const int32_t steps = (max_(at.q_pos, 0) + 1) / p.position_step;
    return logit * ((T(1) + T(p.position_scale) * math::log(T(1 + steps))) / T(p.temperature));
  }
  Params p;
};

}  // namespace fovea
