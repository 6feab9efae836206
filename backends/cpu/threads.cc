#include "backends/cpu/threads.h"

#include <oneapi/tbb/info.h>

#include <chrono>
#include <thread>

namespace fovea::cpu {
namespace {

/// The pool makes its threads when it first has work for them, which allocates: so have them all at work once, before any run.
void start_threads(tbb::task_arena& arena, int count) {
  constexpr auto kPatience = std::chrono::milliseconds(50);  // a busy or limited process may never get them all
  std::atomic<int> started{0};
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  hand_off();
  arena.execute([&] {
    tbb::parallel_for(
        0, count,
        [&](int) {
          hand_off();
          started.fetch_add(1);
          while (started.load() < count && std::chrono::steady_clock::now() < deadline) {
            std::this_thread::yield();
          }
          hand_off();
        },
        tbb::simple_partitioner{});
  });
  hand_off();
}

}  // namespace

// More threads than the machine has would only share its cores: the pool doesn't make them, and complains on standard error when asked.
Threads::Threads(int budget)
    : count_(budget > 0 ? budget : tbb::info::default_concurrency()), arena_(std::min(count_, tbb::info::default_concurrency())) {
  arena_.initialize();
  start_threads(arena_, arena_.max_concurrency());
}

}  // namespace fovea::cpu
