// Properties of the schedule: every token is computed once and in order, pages belong to who they should, nothing exceeds its limit.
#include "serving/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "fovea/error.h"
#include "serving/trace_fixture.h"

namespace fovea::serving {
namespace {

struct Outcome {
  std::vector<std::string> steps;
  SchedulerTotals totals;
};

/// Runs a schedule, playing a cache that remembers which token is in which slot.
Outcome run_checked(const std::vector<ServedRequest>& requests, const SchedulerOptions& options) {
  Scheduler scheduler(requests, options);
  std::vector<std::int32_t> computed(requests.size(), 0), emitted(requests.size(), 0);
  std::map<std::int64_t, std::uint64_t> slots;  // slot -> token
  Outcome outcome;
  Step step;
  while (scheduler.next(step)) {
    EXPECT_LE(step.prefill_tokens + step.decode_tokens, options.token_budget);
    EXPECT_LE(static_cast<int>(step.work.size()), options.max_requests);
    std::set<std::int32_t> seen;
    std::string text;
    for (const ScheduledWork& work : step.work) {
      EXPECT_TRUE(seen.insert(work.request).second) << "a request is in a step once";
      EXPECT_GT(work.count, 0);
      const ServedRequest& served = requests[static_cast<std::size_t>(work.request)];
      const std::span<const std::int32_t> pages = scheduler.pages_of(work.request);
      EXPECT_EQ(static_cast<int>(pages.size()), (work.first + work.count + options.page_size - 1) / options.page_size);
      const auto slot_of = [&](std::int32_t token) {
        return std::int64_t{pages[static_cast<std::size_t>(token / options.page_size)]} * options.page_size + token % options.page_size;
      };
      for (std::int32_t token = work.first; token < work.first + work.count; ++token) {
        EXPECT_EQ(scheduler.pool().num_users(pages[static_cast<std::size_t>(token / options.page_size)]), 1) << "a shared page is written";
        slots[slot_of(token)] = served.token_hash(token);
      }
      computed[static_cast<std::size_t>(work.request)] = work.first + work.count;
      text += std::to_string(work.request) + ":" + std::to_string(work.first) + "+" + std::to_string(work.count) + " ";
    }
    for (const ScheduledWork& work : step.work) {  // after all were written, as a step does
      const ServedRequest& served = requests[static_cast<std::size_t>(work.request)];
      const std::span<const std::int32_t> pages = scheduler.pages_of(work.request);
      for (std::int32_t token = 0; token < work.first + work.count; ++token) {
        const auto slot =
            std::int64_t{pages[static_cast<std::size_t>(token / options.page_size)]} * options.page_size + token % options.page_size;
        if (slots[slot] != served.token_hash(token)) {
          ADD_FAILURE() << "request " << work.request << " finds another token at " << token << " in step " << step.index;
          return outcome;
        }
      }
      emitted[static_cast<std::size_t>(work.request)] += work.emits_token ? 1 : 0;
      EXPECT_EQ(work.first_token, work.emits_token && emitted[static_cast<std::size_t>(work.request)] == 1);
    }
    outcome.steps.push_back(text + "@" + std::to_string(step.begin_us));
    scheduler.finish(step);
    scheduler.pool().check();
  }
  EXPECT_EQ(scheduler.pool().num_used(), 0);
  outcome.totals = scheduler.totals();
  EXPECT_EQ(outcome.totals.finished + outcome.totals.rejected, static_cast<std::int64_t>(requests.size()));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_TRUE(emitted[i] == requests[i].output_tokens() || (emitted[i] == 0 && outcome.totals.rejected > 0)) << "request " << i;
  }
  return outcome;
}

TEST(Scheduler, EveryTokenOnceInOrderAndFound) {
  for (unsigned seed = 0; seed < 6; ++seed) {
    const std::vector<ServedRequest> requests = serve(random_trace(seed, 60), seed % 2 == 0 ? 16 : 64);
    for (const std::int32_t page_size : {1, 16, 48}) {
      for (const std::int32_t num_pages : {500 / page_size + 1, 100'000 / page_size}) {
        const SchedulerOptions options{.token_budget = 128, .max_requests = 12, .page_size = page_size, .num_pages = num_pages};
        const Outcome outcome = run_checked(requests, options);
        EXPECT_GT(outcome.totals.hit_tokens, 0);
      }
    }
  }
}

TEST(Scheduler, SmallCachePreemptsAndFinishes) {
  const std::vector<ServedRequest> requests = serve(random_trace(3, 80), 16);
  const Outcome tight = run_checked(requests, {.token_budget = 256, .max_requests = 16, .page_size = 16, .num_pages = 40});
  EXPECT_GT(tight.totals.preemptions, 0);
  EXPECT_GT(tight.totals.recomputed_tokens, 0);
  EXPECT_GT(tight.totals.evictions, 0);
  EXPECT_GT(tight.totals.mixed_steps, 0);
  EXPECT_GT(tight.totals.chunked_prefills, 0);
  const Outcome ample = run_checked(requests, {.token_budget = 256, .max_requests = 16, .page_size = 16, .num_pages = 10'000});
  EXPECT_EQ(ample.totals.preemptions, 0);
  EXPECT_EQ(ample.totals.evictions, 0);
  EXPECT_EQ(ample.totals.output_tokens, tight.totals.output_tokens);
}

TEST(Scheduler, PrefixReuseComputesLess) {
  const std::vector<ServedRequest> requests = serve(random_trace(4, 100), 16);
  SchedulerOptions options{.token_budget = 256, .max_requests = 16, .page_size = 16, .num_pages = 10'000};
  const Outcome with = run_checked(requests, options);
  options.prefix_reuse = false;
  const Outcome without = run_checked(requests, options);
  EXPECT_GT(with.totals.hit_tokens, 0);
  EXPECT_EQ(without.totals.hit_tokens, 0);
  EXPECT_LT(with.totals.computed_tokens, without.totals.computed_tokens);
  EXPECT_EQ(with.totals.computed_tokens + with.totals.hit_tokens, without.totals.computed_tokens)
      << "what was found is what was not computed";
}

TEST(Scheduler, SameTraceSameSteps) {
  const std::vector<ServedRequest> requests = serve(random_trace(5, 60), 16);
  const SchedulerOptions options{.token_budget = 100, .max_requests = 9, .page_size = 16, .num_pages = 60};
  EXPECT_EQ(run_checked(requests, options).steps, run_checked(requests, options).steps);
  EXPECT_EQ(rehearse(requests, options).steps, static_cast<std::int64_t>(run_checked(requests, options).steps.size()));
}

TEST(Scheduler, RequestsLongerThanTheCacheAreRejected) {
  Trace trace = random_trace(6, 3);
  trace.requests[1].input_tokens = 513;
  trace.requests[1].output_tokens = 512;
  trace.requests[1].prefix_ids = {1, 2};
  trace.requests[0].input_tokens = trace.requests[2].input_tokens = 512;
  trace.requests[0].output_tokens = trace.requests[2].output_tokens = 1;
  trace.requests[0].prefix_ids = trace.requests[2].prefix_ids = {1};
  const std::vector<ServedRequest> requests = serve(trace, 1);
  EXPECT_EQ(run_checked(requests, {.token_budget = 64, .page_size = 512, .num_pages = 1}).totals.rejected, 1);
  EXPECT_EQ(run_checked(requests, {.token_budget = 64, .page_size = 512, .num_pages = 2}).totals.rejected, 0);
}

TEST(Scheduler, OneStepByHand) {
  // Two requests of 512 tokens with the same id: the second finds what the first has computed, but for its last page.
  Trace trace{.name = "", .format = "mooncake", .requests = {}, .skipped_lines = 0, .first_skipped = {}};
  trace.requests = {{.arrival_us = 5, .input_tokens = 512, .output_tokens = 2, .prefix_ids = {1}},
                    {.arrival_us = 6, .input_tokens = 512, .output_tokens = 1, .prefix_ids = {1}}};
  const std::vector<ServedRequest> requests = serve(trace, 8);  // 64 tokens
  EXPECT_EQ(requests[0].token_hash(63), requests[1].token_hash(63));
  EXPECT_NE(requests[0].token_hash(62), requests[1].token_hash(63));
  EXPECT_NE(requests[0].token_hash(64), requests[1].token_hash(64)) << "output is a request's own";
  const Outcome outcome = run_checked(
      requests, {.token_budget = 60, .page_size = 16, .num_pages = 100, .cost = {.step_ns = 1000, .token_ns = 0, .kv_token_ns = 0}});
  EXPECT_EQ(outcome.steps, (std::vector<std::string>{"0:0+60 @0", "0:60+4 1:48+16 @1"}));
}

TEST(Scheduler, APreemptedRequestComesBackBeforeThoseThatWait) {
  // Pages of 16 tokens, 8 of them. Requests 0 and 1 start with 3 pages each and grow; the third waits for memory all the while.
  Trace trace{.name = "", .format = "mooncake", .requests = {}, .skipped_lines = 0, .first_skipped = {}};
  trace.requests = {{.arrival_us = 0, .input_tokens = 47, .output_tokens = 40, .prefix_ids = {}},
                    {.arrival_us = 0, .input_tokens = 47, .output_tokens = 60, .prefix_ids = {}},
                    {.arrival_us = 0, .input_tokens = 47, .output_tokens = 1, .prefix_ids = {}}};
  const std::vector<ServedRequest> requests = serve(trace, 1);
  Scheduler scheduler(requests, {.token_budget = 100, .page_size = 16, .num_pages = 8});
  Step step;
  std::vector<std::int32_t> admitted;  // in order, again after a preemption
  std::vector<std::int32_t> last(3, -1);
  while (scheduler.next(step)) {
    for (const ScheduledWork& work : step.work) {
      if (work.first != last[static_cast<std::size_t>(work.request)]) {
        admitted.push_back(work.request);
      }
      last[static_cast<std::size_t>(work.request)] = work.first + work.count;
    }
    scheduler.finish(step);
  }
  EXPECT_EQ(scheduler.totals().preemptions, 1);
  EXPECT_EQ(scheduler.totals().chunked_prefills, 0) << "computed again, but in one piece";
  EXPECT_EQ(admitted, (std::vector<std::int32_t>{0, 1, 1, 2}));
}

TEST(ServedRequest, AnIdMeansWhatCameBeforeItToo) {
  Trace trace{.name = "", .format = "mooncake", .requests = {}, .skipped_lines = 0, .first_skipped = {}};
  trace.requests = {{.arrival_us = 0, .input_tokens = 1000, .output_tokens = 2, .prefix_ids = {1, 2}},
                    {.arrival_us = 0, .input_tokens = 900, .output_tokens = 2, .prefix_ids = {1, 2}},
                    {.arrival_us = 0, .input_tokens = 1000, .output_tokens = 2, .prefix_ids = {3, 2}},
                    {.arrival_us = 0, .input_tokens = 1000, .output_tokens = 2, .prefix_ids = {2, 1}},
                    {.arrival_us = 0, .input_tokens = 1000, .output_tokens = 2, .prefix_ids = {}},
                    {.arrival_us = 0, .input_tokens = 1000, .output_tokens = 2, .prefix_ids = {}}};
  const std::vector<ServedRequest> requests = serve(trace, 2);
  std::set<std::uint64_t> hashes;
  for (std::int32_t token = 0; token < 450; ++token) {
    EXPECT_EQ(requests[0].token_hash(token), requests[1].token_hash(token)) << token;
    for (const std::size_t request : {0u, 2u, 3u, 4u, 5u}) {
      EXPECT_TRUE(hashes.insert(requests[request].token_hash(token)).second) << "request " << request << ", token " << token;
    }
  }
}

TEST(Scheduler, RefusesOptionsOutOfRange) {
  const std::vector<ServedRequest> none;
  EXPECT_THROW(Scheduler(none, {.token_budget = 0}), InvalidArgument);
  EXPECT_THROW(Scheduler(none, {.max_requests = 0}), InvalidArgument);
  EXPECT_THROW(Scheduler(none, {.page_size = 0}), InvalidArgument);
  EXPECT_THROW(Scheduler(none, {.num_pages = 0}), InvalidArgument);
  const Trace trace = random_trace(1, 2);
  for (const std::int32_t shrink : {0, -1, 3, 1024}) {
    EXPECT_THROW(serve(trace, shrink), InvalidArgument) << shrink;
  }
}

}  // namespace
}  // namespace fovea::serving
