// Timing: medians and deciles, and rounds in which contestants take turns, so that a machine's drift meets all of them alike.
#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace fovea::bench {

struct Quantiles {
  double median = 0, p10 = 0, p90 = 0;
};

/// Linear interpolation between order statistics. `samples` must not be empty.
Quantiles quantiles(std::span<const double> samples);
inline double median(std::span<const double> samples) { return quantiles(samples).median; }

/// numerator[i] / denominator[i].
std::vector<double> ratios(std::span<const double> numerator, std::span<const double> denominator);

template <class Function>
double microseconds_of(Function&& function) {
  const auto begin = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count();
}

/// One thing that is timed.
struct Contestant {
  std::string name;
  std::function<void()> run;
};

/// One thing that takes its own time: its run returns microseconds.
struct SelfTimed {
  std::string name;
  std::function<double()> run;
};

/// Called before every timed run; may throw to stop.
using OnRun = std::function<void(int done, int total)>;

/// Microseconds of `rounds` runs of each contestant after one untimed round; result[c][round]. The order rotates from round to round.
std::vector<std::vector<double>> take_turns(std::span<const Contestant> contestants, int rounds, const OnRun& on_run);
std::vector<std::vector<double>> take_turns(std::span<const SelfTimed> contestants, int rounds, const OnRun& on_run);

}  // namespace fovea::bench
