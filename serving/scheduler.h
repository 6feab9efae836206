// Scheduler: continuous batching with chunked prefill over a paged cache, on a virtual clock. What is in a step follows from the trace and
// the options alone, never from how fast a machine is: the clock advances by an integer cost per step.
// The order of things is that of today's serving engines: running requests first, oldest first; when pages run out the youngest running
// request is preempted and later computed again; waiting requests are admitted in order of arrival, with the longest cached prefix.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "serving/page_pool.h"
#include "serving/served_request.h"

namespace fovea::serving {

/// What a step costs on the virtual clock. The defaults are of the order of an 8-billion-parameter model on one accelerator.
struct StepCost {
  std::int64_t step_ns = 6'000'000;
  std::int64_t token_ns = 25'000;  // of a token computed
  std::int64_t kv_token_ns = 40;   // of a token whose keys and values are read
};

struct SchedulerOptions {
  std::int32_t token_budget = 2048;  // tokens computed in a step at most
  std::int32_t max_requests = 64;    // requests in a step at most
  std::int32_t page_size = 16;
  std::int32_t num_pages = 4096;
  bool prefix_reuse = true;
  StepCost cost;
  std::int32_t cost_factor = 1;  // times StepCost: a token that stands for several of the trace costs as much as they do
};

/// One request's part of a step: tokens [first, first + count).
struct ScheduledWork {
  std::int32_t request = 0;
  std::int32_t first = 0;
  std::int32_t count = 0;
  bool emits_token = false;  // computes the last token known so far
  bool first_token = false;  // and the token is the request's first
  bool is_prefill = false;   // prompt tokens, or tokens computed again after a preemption
};

struct Step {
  std::int64_t index = 0;
  std::int64_t begin_us = 0;  // on the virtual clock
  std::vector<ScheduledWork> work;
  std::int32_t prefill_tokens = 0, decode_tokens = 0;
  std::int64_t kv_tokens = 0;   // tokens whose keys and values the step's requests may read
  std::int32_t hit_tokens = 0;  // of requests admitted in this step
  std::int32_t num_running = 0, num_waiting = 0, num_preempted = 0, pages_used = 0, pages_idle = 0;
};

/// Sums over all steps so far.
struct SchedulerTotals {
  std::int64_t steps = 0;
  std::int64_t prompt_tokens = 0, output_tokens = 0;  // of finished requests
  std::int64_t computed_tokens = 0;
  std::int64_t recomputed_tokens = 0;  // lost by preemptions and not found in the cache again
  std::int64_t hit_tokens = 0, looked_up_tokens = 0;
  std::int64_t finished = 0, rejected = 0;  // rejected: longer than the whole cache
  std::int64_t preemptions = 0, evictions = 0;
  std::int64_t mixed_steps = 0, chunked_prefills = 0;  // steps with prefill and decode; prompts computed in several pieces
  std::int64_t max_step_tokens = 0, max_step_requests = 0, max_kv_tokens = 0;
};

class Scheduler {
 public:
  /// Borrows the requests. Throws InvalidArgument for options out of range.
  Scheduler(std::span<const ServedRequest> requests, const SchedulerOptions& options);

  /// Puts the next step together. False when all requests are done. finish() must come between two calls.
  bool next(Step& step);
  /// The step was computed: full pages may be shared, tokens come out, requests end, the clock advances.
  void finish(const Step& step);

  /// Pages of a request in order; those of a step's tokens are there once next() has returned.
  std::span<const std::int32_t> pages_of(std::int32_t request) const { return states_[static_cast<std::size_t>(request)].pages; }
  std::int64_t now_us() const { return now_ns_ / 1000; }
  const SchedulerTotals& totals() const { return totals_; }
  const PagePool& pool() const { return pool_; }

 private:
  struct State {
    std::vector<std::int32_t> pages;
    std::int32_t num_computed = 0;   // tokens in the cache
    std::int32_t num_generated = 0;  // output tokens so far
    std::int32_t num_published = 0;  // pages
    std::int32_t num_lost = 0;       // tokens that a preemption threw away
    std::int32_t num_chunks = 0;     // of its tokens, since it was admitted
    bool in_pieces = false;          // had several at some time
  };

  State& state(std::int32_t request) { return states_[static_cast<std::size_t>(request)]; }
  std::int32_t num_known(std::int32_t request) const;
  std::int32_t pages_for(std::int32_t tokens) const { return (tokens + options_.page_size - 1) / options_.page_size; }
  void arrive();
  void schedule_running(Step& step);
  void admit_waiting(Step& step);
  bool admit(std::int32_t request, Step& step);
  std::int32_t share_prefix(std::int32_t request);
  void add_work(std::int32_t request, std::int32_t count, Step& step);
  void release_pages(std::int32_t request);
  void preempt_youngest(Step& step);

  std::span<const ServedRequest> requests_;
  SchedulerOptions options_;
  PagePool pool_;
  std::vector<State> states_;
  std::vector<std::int32_t> running_;  // oldest first
  std::deque<std::int32_t> waiting_;
  std::size_t num_arrived_ = 0;
  std::int32_t budget_ = 0;  // left in the step that is being put together
  std::int64_t now_ns_ = 0;
  SchedulerTotals totals_;
};

/// Runs the whole schedule without computing anything: how many steps there will be, and what buffers they need. Milliseconds.
SchedulerTotals rehearse(std::span<const ServedRequest> requests, const SchedulerOptions& options);

}  // namespace fovea::serving
