// Expect: two parts of a composition have extra_logit
#include "portable/compose.h"
#include "variants/causal.h"
#include "variants/sink.h"

struct OtherSink : fovea::VariantBase {
#if defined(FOVEA_DEFECT)
  template <class T>
  FOVEA_FN T extra_logit(const fovea::Position<>&) const {
    return T(0);
  }
#endif
};

using Rule = fovea::Compose<fovea::Causal, fovea::Sink, OtherSink>;
static_assert(fovea::HasExtraLogit<Rule>);
