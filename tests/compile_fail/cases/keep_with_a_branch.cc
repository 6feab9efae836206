// A `keep` that is a template on the index type answers for tiles: a branch would have to go both ways.
// Expect: Tri
#include "portable/tile_class.h"

struct Window : fovea::VariantBase {
  struct Mask {
    int32_t window_left;
    template <class I>
    FOVEA_FN auto keep(const fovea::Position<I>& at) const {
#if defined(FOVEA_DEFECT)
      if (at.kv_pos > at.q_pos) {
        return fovea::Tri(false);
      }
#endif
      return fovea::Tri((at.kv_pos <= at.q_pos) & (at.q_pos - at.kv_pos <= window_left));
    }
    FOVEA_FN constexpr fovea::KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(window_left))
  };
  Mask m;
};

fovea::TileClass class_of(const Window& v, const fovea::Position<fovea::Interval>& tile) { return fovea::classify(v.m, tile); }
