// A mask decides which tiles exist, before any run: it can't see what only a run knows.
// Expect: non-static data member
#include "portable/variant.h"

struct Threshold : fovea::VariantBase {
  struct Params {
    int32_t limit;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED(limit))
  };
  struct Mask {
    int32_t limit;
    template <class I>
    FOVEA_FN auto keep(const fovea::Position<I>& at) const {
#if defined(FOVEA_DEFECT)
      return at.kv_pos <= p.limit;
#else
      return at.kv_pos <= limit;
#endif
    }
    FOVEA_FN constexpr fovea::KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(limit))
  };
  Mask m;
  Params p;
};

bool keeps(const Threshold& v, const fovea::Position<>& at) { return v.m.keep(at); }
