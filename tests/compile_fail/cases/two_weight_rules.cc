// Expect: two parts of a composition have use_softmax = false
#include "portable/compose.h"
#include "variants/causal.h"
#include "variants/sigmoid.h"

struct OtherWeights : fovea::VariantBase {
#if defined(FOVEA_DEFECT)
  static constexpr bool use_softmax = false;
#endif
};

using Rule = fovea::Compose<fovea::Causal, OtherWeights, fovea::Sigmoid>;
static_assert(!Rule::use_softmax);
