#include "backends/cpu/threads.h"

#include <oneapi/tbb/info.h>

namespace fovea::cpu {

Threads::Threads(int budget) : count_(budget > 0 ? budget : tbb::info::default_concurrency()), arena_(count_) { arena_.initialize(); }

}  // namespace fovea::cpu
