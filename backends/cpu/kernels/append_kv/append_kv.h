// Writes new tokens into a cache, in parallel over tokens.
#pragma once

#include "backends/cpu/threads.h"
#include "src/backend.h"

namespace fovea::cpu {

void append_kv(const AppendParams& params, const Threads& threads);

}  // namespace fovea::cpu
