// A hook with other arguments is a function that nobody calls.
// Expect: transform_logit must be callable as
#include "portable/check_hooks.h"

struct Doubled : fovea::VariantBase {
  template <class T>
#if defined(FOVEA_DEFECT)
  FOVEA_FN T transform_logit(T logit) const {
#else
  FOVEA_FN T transform_logit(T logit, const fovea::Position<>&) const {
#endif
      return logit + logit;
}
}
;

static_assert(fovea::kHooksAreSound<Doubled>);
