#include "cli/bench_points.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/machine.h"

namespace fovea::cli {

Json json_of(const Point& point) {
  Json json = {{"workload", point.workload}, {"median_us", point.us.median}, {"p10_us", point.us.p10},
               {"p90_us", point.us.p90},     {"ratio", point.ratio},         {"against", point.against}};
  json.update(point.more);
  return json;
}

Json json_of(const std::vector<Point>& points, int num_threads) {
  const bench::Machine machine = bench::this_machine();
  Json list = Json::array();
  for (const Point& point : points) {
    list.push_back(json_of(point));
  }
  return {{"cpu", machine.cpu}, {"cores", machine.num_cores}, {"threads", num_threads}, {"points", list}};
}

std::string machine_line(const std::string& engine_description) {
  const bench::Machine machine = bench::this_machine();
  return fmt::format("{}, {} core{}; {}\n", machine.cpu, machine.num_cores, machine.num_cores == 1 ? "" : "s", engine_description);
}

int copies_for_cold_caches(std::int64_t bytes) {
  constexpr std::int64_t kUnknownCacheBytes = 64 << 20;
  const std::int64_t known = bench::this_machine().last_cache_bytes;
  const std::int64_t cache_bytes = known > 0 ? known : kUnknownCacheBytes;
  return static_cast<int>(1 + std::max<std::int64_t>(1, (2 * cache_bytes + bytes - 1) / bytes));
}

FmaPeak::FmaPeak(const bench::Peaks& peaks, bench::Isa isa) : peaks_(peaks), isa_(isa) {
  constexpr double kAimMicroseconds = 10e3;
  run();  // threads start, clocks rise
  const double time = bench::microseconds_of([&] { run(); });
  steps_ = std::max<std::int64_t>(1, static_cast<std::int64_t>(static_cast<double>(steps_) * kAimMicroseconds / time));
  flops_ = peaks_.multiply_add(isa_, steps_);
}

}  // namespace fovea::cli
