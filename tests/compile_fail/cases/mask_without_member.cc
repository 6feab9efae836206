// A mask that the variant has no member for would be left out without a word.
// Expect: needs a member `Mask m`
#include "portable/check_hooks.h"

struct Window : fovea::VariantBase {
  struct Mask {
    int32_t window_left;
    template <class I>
    FOVEA_FN auto keep(const fovea::Position<I>& at) const {
      return at.q_pos - at.kv_pos <= window_left;
    }
    FOVEA_FN constexpr fovea::KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(window_left))
  };
#if !defined(FOVEA_DEFECT)
  Mask m;
#endif
};

static_assert(fovea::kHooksAreSound<Window>);
