// Threads with a budget: one arena that all modules of a backend share. Work is handed out by tickets, so that results never depend on who
// runs what.
#pragma once

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/partitioner.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace fovea::cpu {

/// Order: what the caller wrote before a launch is seen by its tasks, and what they wrote by the caller. The pool orders both itself, but
/// the system's oneTBB is built without the thread sanitizer, which sees this instead. A global, so that a task needs to read nothing
/// before it.
inline std::atomic<std::uint32_t> handoffs{0};
inline void hand_off() { handoffs.fetch_add(1, std::memory_order_acq_rel); }

class Threads {
 public:
  /// At most `budget` threads at a time; 0: all the process may use.
  explicit Threads(int budget);

  int count() const { return count_; }

  /// How many slots there are. Two for one thread: while a caller's thread works in the arena of one, a thread of the pool takes in the
  /// work of a second caller, at a slot of its own.
  int num_slots() const { return std::max(count_, 2); }

  /// Calls f(ticket, slot) for every ticket 0 .. num_tickets - 1, each once, and returns when all are done. `slot` < num_slots() is the
  /// thread's own for as long as f runs: scratch is indexed by it.
  template <class F>
  void for_each_ticket(std::int64_t num_tickets, const F& f) const {
    if (num_tickets <= 0) {
      return;
    }
    std::atomic<std::int64_t> next{0};
    const auto drain = [&](int) {
      hand_off();
      const int slot = tbb::this_task_arena::current_thread_index();
      for (std::int64_t ticket = next.fetch_add(1, std::memory_order_relaxed); ticket < num_tickets;
           ticket = next.fetch_add(1, std::memory_order_relaxed)) {
        f(ticket, slot);
      }
      hand_off();
    };
    hand_off();
    const int helpers = static_cast<int>(std::min<std::int64_t>(num_tickets, count_));
    arena_.execute([&] {
      if (helpers == 1) {
        drain(0);
      } else {
        tbb::parallel_for(0, helpers, drain, tbb::simple_partitioner{});
      }
    });
    hand_off();
  }

 private:
  int count_;
  mutable tbb::task_arena arena_;
};

}  // namespace fovea::cpu
