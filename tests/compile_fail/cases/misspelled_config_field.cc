// Expect: tile_k
#include "portable/config.h"

constexpr fovea::KernelConfig kConfig {
  .tile_q = 64,
#if defined(FOVEA_DEFECT)
  .tile_k = 128,
#else
  .tile_kv = 128,
#endif
};
static_assert(kConfig.tile_q == 64);
