// When attention_simd takes a problem, and with which tiles.
#pragma once

#include "src/backend.h"

namespace fovea::cpu {

Candidate attention_simd_candidate(const Problem& problem);

}  // namespace fovea::cpu
