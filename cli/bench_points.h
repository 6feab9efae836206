// What every `bench` prints: points with a median, deciles and a ratio to something measured in the same run.
#pragma once

#include <string>
#include <vector>

#include "bench/peaks.h"
#include "bench/timing.h"
#include "cli/options.h"
#include "cli/results.h"
#include "cli/terminal.h"

namespace fovea::cli {

struct Point {
  std::string workload;
  bench::Quantiles us;
  double ratio = 0;
  std::string against;
  Json more = Json::object();  // keys of this benchmark alone
};

/// The point's keys in the order of docs/json.md.
Json json_of(const Point& point);

/// {"machine": ..., "threads": ..., "points": ...}: what `bench` writes.
Json json_of(const std::vector<Point>& points, int num_threads);

/// A line about machine and build for people: timings without it are worth little.
std::string machine_line(const std::string& engine_description);

/// How many copies of `bytes` must take turns so that a copy has left the caches when its turn comes again.
int copies_for_cold_caches(std::int64_t bytes);

/// The rate of multiply-adds in registers, as a contestant.
class FmaPeak {
 public:
  FmaPeak(const bench::Peaks& peaks, bench::Isa isa);
  void run() const { peaks_.multiply_add(isa_, steps_); }  // about 10 ms
  double flops() const { return flops_; }                  // of one run()
  std::string name() const { return isa_ == bench::Isa::avx512_bf16 ? "dot_bf16_avx512" : std::string("fma_f32_") + bench::name_of(isa_); }

 private:
  const bench::Peaks& peaks_;
  bench::Isa isa_;
  std::int64_t steps_ = 100'000;
  double flops_ = 0;
};

}  // namespace fovea::cli
