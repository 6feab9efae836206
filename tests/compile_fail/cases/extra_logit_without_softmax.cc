// Expect: an extra logit takes part in a softmax
#include "portable/compose.h"
#include "variants/sigmoid.h"
#include "variants/sink.h"
#include "variants/soft_cap.h"

#if defined(FOVEA_DEFECT)
using Rule = fovea::Compose<fovea::Sink, fovea::Sigmoid>;
#else
using Rule = fovea::Compose<fovea::SoftCap, fovea::Sigmoid>;
#endif
static_assert(fovea::kHooksAreSound<Rule>);
