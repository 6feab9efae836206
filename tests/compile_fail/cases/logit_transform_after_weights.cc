// Expect: must be the last that transforms logits
#include "portable/compose.h"
#include "variants/sigmoid.h"
#include "variants/soft_cap.h"

#if defined(FOVEA_DEFECT)
using Rule = fovea::Compose<fovea::Sigmoid, fovea::SoftCap>;
#else
using Rule = fovea::Compose<fovea::SoftCap, fovea::Sigmoid>;
#endif
static_assert(!Rule::use_softmax);
