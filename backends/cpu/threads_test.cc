#include "backends/cpu/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace fovea::cpu {
namespace {

/// Several callers at once: every ticket is drawn once, and no slot is in two hands or beyond the last.
void expect_slots_apart(int budget) {
  const Threads threads(budget);
  constexpr int kCallers = 4, kRounds = 60, kTickets = 8;
  std::vector<std::atomic<int>> in_slot(static_cast<std::size_t>(threads.num_slots()));
  std::atomic<int> wrong{0}, drawn{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < kCallers; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        threads.for_each_ticket(kTickets, [&](std::int64_t, int slot) {
          ++drawn;
          if (slot < 0 || slot >= threads.num_slots()) {
            ++wrong;
            return;
          }
          wrong += in_slot[static_cast<std::size_t>(slot)].fetch_add(1) != 0 ? 1 : 0;
          std::this_thread::yield();
          --in_slot[static_cast<std::size_t>(slot)];
        });
      }
    });
  }
  for (std::thread& caller : callers) {
    caller.join();
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(drawn, kCallers * kRounds * kTickets);
}

TEST(Threads, CallersOfOneThread) { expect_slots_apart(1); }
TEST(Threads, CallersOfTwoThreads) { expect_slots_apart(2); }
TEST(Threads, CallersOfMoreThreadsThanTheMachineMayHave) { expect_slots_apart(3); }

}  // namespace
}  // namespace fovea::cpu
