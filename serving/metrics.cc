#include "serving/metrics.h"

#include <algorithm>
#include <cmath>

namespace fovea::serving {

double percentile(std::span<const double> sorted, double share) {
  if (sorted.empty()) {
    return 0;
  }
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Percentiles percentiles(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return {.p50 = percentile(samples, 0.5), .p90 = percentile(samples, 0.9), .p99 = percentile(samples, 0.99)};
}

Latencies::Latencies(std::span<const ServedRequest> requests) : requests_(requests), last_token_us_(requests.size(), 0) {}

void Latencies::add(const Step& step, double step_us) {
  for (; num_arrived_ < requests_.size() && requests_[num_arrived_].arrival_us() <= step.begin_us; ++num_arrived_) {
    last_token_us_[num_arrived_] = now_us_;
  }
  now_us_ += step_us;
  for (const ScheduledWork& work : step.work) {
    if (work.emits_token) {
      double& last = last_token_us_[static_cast<std::size_t>(work.request)];
      (work.first_token ? first_token_us_ : inter_token_us_).push_back(now_us_ - last);
      last = now_us_;
    }
  }
}

double visible_pairs(std::int64_t first, std::int64_t count, std::int64_t window) {
  // The query at position p sees min(p + 1, window) tokens: growing for the first `grows` queries, constant for the others.
  const std::int64_t grows = window == 0 ? count : std::clamp<std::int64_t>(window - first, 0, count);
  const double growing = static_cast<double>(grows) * (static_cast<double>(first) + static_cast<double>(grows + 1) / 2);
  return growing + static_cast<double>(count - grows) * static_cast<double>(window);
}

std::int64_t visible_tokens(std::int64_t first, std::int64_t count, std::int64_t window) {
  return window == 0 ? first + count : std::min(first + count, window + count - 1);
}

}  // namespace fovea::serving
