#include "bench/timing.h"

#include <algorithm>
#include <cmath>

namespace fovea::bench {

Quantiles quantiles(std::span<const double> samples) {
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double fraction) {
    const double place = fraction * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(std::floor(place));
    const std::size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
  };
  return {.median = at(0.5), .p10 = at(0.1), .p90 = at(0.9)};
}

std::vector<double> ratios(std::span<const double> numerator, std::span<const double> denominator) {
  std::vector<double> result(std::min(numerator.size(), denominator.size()));
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i] = numerator[i] / denominator[i];
  }
  return result;
}

std::vector<std::vector<double>> take_turns(std::span<const Contestant> contestants, int rounds, const OnRun& on_run) {
  std::vector<SelfTimed> timed;
  for (const Contestant& contestant : contestants) {
    timed.push_back({contestant.name, [&contestant] { return microseconds_of(contestant.run); }});
  }
  return take_turns(timed, rounds, on_run);
}

std::vector<std::vector<double>> take_turns(std::span<const SelfTimed> contestants, int rounds, const OnRun& on_run) {
  const int count = static_cast<int>(contestants.size());
  std::vector<std::vector<double>> times(contestants.size(), std::vector<double>(static_cast<std::size_t>(rounds)));
  int run = 0;
  for (int round = -1; round < rounds; ++round) {  // round -1 warms up
    for (int turn = 0; turn < count; ++turn, ++run) {
      on_run(run, count * (rounds + 1));
      const auto c = static_cast<std::size_t>((turn + std::max(round, 0)) % count);
      const double time = contestants[c].run();
      if (round >= 0) {
        times[c][static_cast<std::size_t>(round)] = time;
      }
    }
  }
  return times;
}

}  // namespace fovea::bench
