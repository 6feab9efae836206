// Rotary position embedding fused into attention, neighbouring elements paired as in GPT-J: keys are stored unturned.
#pragma once

#include "portable/rope.h"

namespace fovea {

struct RopeInterleaved : RotaryEmbedding<Pairing::adjacent> {};

}  // namespace fovea
