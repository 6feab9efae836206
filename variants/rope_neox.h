// Rotary position embedding fused into attention, elements paired by halves as in GPT-NeoX and Llama: keys are stored unturned.
#pragma once

#include "portable/rope.h"

namespace fovea {

struct RopeNeox : RotaryEmbedding<Pairing::half> {};

}  // namespace fovea
