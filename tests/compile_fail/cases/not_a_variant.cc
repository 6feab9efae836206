// Expect: AttentionVariant
#include "portable/compose.h"
#include "variants/causal.h"

#if defined(FOVEA_DEFECT)
struct Doubled {
#else
struct Doubled : fovea::VariantBase {
#endif
  template <class T>
  FOVEA_FN T transform_logit(T logit, const fovea::Position<>&) const {
    return logit + logit;
  }
};

using Rule = fovea::Compose<fovea::Causal, Doubled>;
static_assert(fovea::HasTransformLogit<Rule>);
