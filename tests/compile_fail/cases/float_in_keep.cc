// Masks are integer arithmetic: on a tile a float would be cut off, and the answer would not be sound.
// Expect: deleted function
#include "portable/tile_class.h"

struct Fraction : fovea::VariantBase {
  struct Mask {
    template <class I>
    FOVEA_FN auto keep(const fovea::Position<I>& at) const {
#if defined(FOVEA_DEFECT)
      return at.kv_pos < at.q_pos * 0.5f;
#else
      return at.kv_pos < at.q_pos / 2;
#endif
    }
    FOVEA_FN constexpr fovea::KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask)
  };
  Mask m;
};

fovea::TileClass class_of(const Fraction& v, const fovea::Position<fovea::Interval>& tile) { return fovea::classify(v.m, tile); }
