#include "serving/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "fovea/error.h"

namespace fovea::serving {
namespace {

void check_option(const char* name, std::int64_t value, std::int64_t low) {
  if (value < low) {
    throw InvalidArgument(fmt::format("scheduler: {} is {}; it must be at least {}", name, value, low));
  }
}

}  // namespace

Scheduler::Scheduler(std::span<const ServedRequest> requests, const SchedulerOptions& options)
    : requests_(requests), options_(options), pool_(std::max(options.num_pages, 0)), states_(requests.size()) {
  check_option("token_budget", options.token_budget, 1);
  check_option("max_requests", options.max_requests, 1);
  check_option("page_size", options.page_size, 1);
  check_option("num_pages", options.num_pages, 1);
  check_option("cost_factor", options.cost_factor, 1);
}

/// Tokens whose values are known: the prompt, and what came out so far.
std::int32_t Scheduler::num_known(std::int32_t request) const {
  return requests_[static_cast<std::size_t>(request)].prompt_tokens() + states_[static_cast<std::size_t>(request)].num_generated;
}

void Scheduler::arrive() {
  while (num_arrived_ < requests_.size() && requests_[num_arrived_].arrival_us() * 1000 <= now_ns_) {
    if (pages_for(requests_[num_arrived_].max_kv_tokens()) > pool_.num_pages()) {
      ++totals_.rejected;
    } else {
      waiting_.push_back(static_cast<std::int32_t>(num_arrived_));
    }
    ++num_arrived_;
  }
}

bool Scheduler::next(Step& step) {
  arrive();
  while (running_.empty() && waiting_.empty()) {
    if (num_arrived_ == requests_.size()) {
      return false;
    }
    now_ns_ = requests_[num_arrived_].arrival_us() * 1000;
    arrive();
  }
  step = {.index = totals_.steps, .begin_us = now_us(), .work = std::move(step.work)};
  step.work.clear();
  budget_ = options_.token_budget;
  schedule_running(step);
  if (step.num_preempted == 0) {  // memory that a preemption freed is for those that run
    admit_waiting(step);
  }
  if (step.work.empty()) {
    throw InternalError(
        fmt::format("scheduler: step {} has no work ({} running, {} waiting)", step.index, running_.size(), waiting_.size()));
  }
  step.num_running = static_cast<std::int32_t>(running_.size());
  step.num_waiting = static_cast<std::int32_t>(waiting_.size());
  step.pages_used = pool_.num_used();
  step.pages_idle = pool_.num_idle();
  return true;
}

void Scheduler::schedule_running(Step& step) {
  // running_ may lose its youngest members on the way.
  for (std::size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
    const std::int32_t request = running_[i];
    const std::int32_t count = std::min(num_known(request) - state(request).num_computed, budget_);
    const auto missing = [&] {
      return pages_for(state(request).num_computed + count) - static_cast<std::int32_t>(state(request).pages.size());
    };
    while (missing() > pool_.num_available() && running_.size() > i + 1) {
      preempt_youngest(step);
    }
    if (missing() > pool_.num_available()) {  // it is the youngest itself: older ones have all the rest
      preempt_youngest(step);
      return;
    }
    add_work(request, count, step);
  }
}

void Scheduler::preempt_youngest(Step& step) {
  const std::int32_t request = running_.back();
  running_.pop_back();
  state(request).num_lost = std::max(state(request).num_lost, state(request).num_computed);
  release_pages(request);
  waiting_.push_front(request);
  ++step.num_preempted;
  ++totals_.preemptions;
}

void Scheduler::release_pages(std::int32_t request) {
  State& s = state(request);
  while (!s.pages.empty()) {  // last page first: the end of a prefix is evicted before its beginning
    pool_.release(s.pages.back());
    s.pages.pop_back();
  }
  s.num_computed = s.num_published = s.num_chunks = 0;
}

void Scheduler::admit_waiting(Step& step) {
  while (budget_ > 0 && !waiting_.empty() && static_cast<std::int32_t>(running_.size()) < options_.max_requests) {
    if (!admit(waiting_.front(), step)) {
      return;
    }
    waiting_.pop_front();
  }
}

/// Takes cached pages of the request's prefix. At least one token is left to compute. Returns the tokens found.
std::int32_t Scheduler::share_prefix(std::int32_t request) {
  State& s = state(request);
  const std::int32_t last = (num_known(request) - 1) / options_.page_size;
  for (std::int32_t page = 0; options_.prefix_reuse && page < last; ++page) {
    const auto found = pool_.share(requests_[static_cast<std::size_t>(request)].token_hash((page + 1) * options_.page_size - 1));
    if (!found) {
      break;
    }
    s.pages.push_back(*found);
  }
  s.num_published = static_cast<std::int32_t>(s.pages.size());
  s.num_computed = s.num_published * options_.page_size;
  return s.num_computed;
}

/// Of the request that waits longest, step after step until it fits: the look at its prefix counts as a use, which keeps those pages from
/// being evicted just before they are needed. It costs 4 to 26 us a step, outside of what is measured.
bool Scheduler::admit(std::int32_t request, Step& step) {
  const std::int32_t hits = share_prefix(request);
  // All that is known must fit, or admission would only preempt others. The pages are taken chunk by chunk.
  if (pages_for(num_known(request)) - state(request).num_published > pool_.num_available()) {
    release_pages(request);
    return false;
  }
  running_.push_back(request);
  step.hit_tokens += hits;
  totals_.hit_tokens += hits;
  totals_.looked_up_tokens += num_known(request);
  State& s = state(request);
  totals_.recomputed_tokens += std::max(0, s.num_lost - hits);
  s.num_lost = 0;
  add_work(request, std::min(num_known(request) - hits, budget_), step);
  return true;
}

void Scheduler::add_work(std::int32_t request, std::int32_t count, Step& step) {
  State& s = state(request);
  while (static_cast<std::int32_t>(s.pages.size()) < pages_for(s.num_computed + count)) {
    s.pages.push_back(pool_.take());
  }
  ScheduledWork work{.request = request, .first = s.num_computed, .count = count};
  work.emits_token = work.first + count == num_known(request);
  work.first_token = work.emits_token && s.num_generated == 0;
  work.is_prefill = !(work.emits_token && s.num_generated > 0 && count == 1);
  (work.is_prefill ? step.prefill_tokens : step.decode_tokens) += count;
  step.kv_tokens += work.first + count;
  if (work.is_prefill && ++s.num_chunks == 2 && !std::exchange(s.in_pieces, true)) {
    ++totals_.chunked_prefills;
  }
  step.work.push_back(work);
  budget_ -= count;
}

void Scheduler::finish(const Step& step) {
  for (const ScheduledWork& work : step.work) {
    const ServedRequest& served = requests_[static_cast<std::size_t>(work.request)];
    State& s = state(work.request);
    s.num_computed += work.count;
    s.num_generated += work.emits_token ? 1 : 0;
    for (; options_.prefix_reuse && (s.num_published + 1) * options_.page_size <= s.num_computed; ++s.num_published) {
      pool_.publish(s.pages[static_cast<std::size_t>(s.num_published)], served.token_hash((s.num_published + 1) * options_.page_size - 1));
    }
    totals_.max_kv_tokens = std::max<std::int64_t>(totals_.max_kv_tokens, s.num_computed);
    if (s.num_generated == served.output_tokens()) {
      release_pages(work.request);
      ++totals_.finished;
      totals_.prompt_tokens += served.prompt_tokens();
      totals_.output_tokens += served.output_tokens();
      std::erase(running_, work.request);
    }
  }
  const std::int64_t tokens = step.prefill_tokens + step.decode_tokens;
  const StepCost& cost = options_.cost;
  now_ns_ += options_.cost_factor * (cost.step_ns + cost.token_ns * tokens + cost.kv_token_ns * step.kv_tokens);
  ++totals_.steps;
  totals_.computed_tokens += tokens;
  totals_.mixed_steps += step.prefill_tokens > 0 && step.decode_tokens > 0 ? 1 : 0;
  totals_.max_step_tokens = std::max(totals_.max_step_tokens, tokens);
  totals_.max_step_requests = std::max(totals_.max_step_requests, static_cast<std::int64_t>(step.work.size()));
  totals_.evictions = pool_.num_evictions();
}

SchedulerTotals rehearse(std::span<const ServedRequest> requests, const SchedulerOptions& options) {
  Scheduler scheduler(requests, options);
  Step step;
  while (scheduler.next(step)) {
    scheduler.finish(step);
  }
  return scheduler.totals();
}

}  // namespace fovea::serving
