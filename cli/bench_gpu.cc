#include "cli/bench_gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "bench/gpu.h"
#include "bench/gpu_workloads.h"
#include "bench/layer.h"
#include "cli/bench_points.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

constexpr std::int64_t kRotatedBytes = std::int64_t{1} << 30;  // of K and V together: many times what an L2 cache holds
constexpr std::int64_t kTellingBytes = 200'000'000;            // from here on the load-only kernel must keep up with reading in order
constexpr double kLeastOfReading = 0.95;
constexpr int kMaxCopies = 256;
constexpr int kLeastCalls = 32;  // of a chain: what a replay takes beside its calls is shared among them

std::vector<bench::GpuPoint> points_of(const GpuBenchOptions& options, std::vector<bench::GpuPoint> otherwise) {
  std::vector<bench::GpuPoint> points;
  for (const std::string& name : options.workloads) {
    for (bench::Workload& workload : bench::load_workloads(name)) {
      workload.name += fmt::format("_g{}", workload.spec.num_qo_heads / workload.spec.num_kv_heads);
      points.push_back({.workload = std::move(workload)});
    }
  }
  return points.empty() ? std::move(otherwise) : points;
}

/// The kernel that explain() says was chosen.
std::string kernel_of(const bench::Layer& layer) {
  const std::string text = layer.explain();
  const std::size_t chosen = text.find(" chosen");
  const std::size_t line = text.rfind('\n', chosen) + 1;
  const std::size_t begin = text.find_first_not_of(' ', line);
  return chosen == std::string::npos ? "" : text.substr(begin, text.find(' ', begin) - begin);
}

std::vector<std::vector<double>> turns(std::span<const bench::SelfTimed> contestants, const std::string& name, int rounds) {
  Progress progress(name, 1);
  return bench::take_turns(contestants, rounds, [&](int done, int total) { progress.update(done, std::int64_t{total}); });
}

/// A layer and what it is compared with, each as a chain of calls that takes turns over copies of K and V.
class DecodeMatch {
 public:
  DecodeMatch(const bench::Gpu& gpu, const bench::Workload& workload)
      : gpu_(gpu),
        kv_bytes_(bench::kv_bytes_of(workload)),
        num_copies_(static_cast<int>(std::clamp<std::int64_t>((kRotatedBytes + kv_bytes_ - 1) / kv_bytes_, 2, kMaxCopies))),
        num_calls_(std::max(num_copies_, kLeastCalls)),
        layer_(gpu.engine(), workload, num_copies_, &gpu) {
    layer_.run(0);  // what a first launch sets up is no part of a graph
    engine_.emplace(gpu, num_calls_, [&](int i) { layer_.run(i); });
    if (bench::LoadList::serves(workload.spec)) {
      list_.emplace(gpu, workload, layer_.arrays());
      kv_bytes_ = list_->bytes();
      choose_load();
    }
    read_.emplace(gpu, num_calls_, [&](int i) { gpu.read_in_order(layer_.kv_bytes(i).data(), kv_bytes_ / 16 * 16); });
  }

  Point measure(int rounds) {
    std::vector<bench::SelfTimed> contestants = {{"fovea", [&] { return engine_->microseconds(); }},
                                                 {"read_in_order", [&] { return read_->microseconds(); }}};
    if (load_) {
      contestants.push_back({"load_only", [&] { return load_->microseconds(); }});
    }
    const bench::Workload& workload = layer_.workload();
    const auto times = turns(contestants, workload.name, rounds);
    const auto gb_per_s = [&](std::size_t contestant) { return static_cast<double>(kv_bytes_) / bench::median(times[contestant]) / 1e3; };
    const std::size_t against = load_ ? 2 : 1;
    Point point{.workload = workload.name,
                .us = bench::quantiles(times[0]),
                .ratio = bench::median(bench::ratios(times[against], times[0])),
                .against = load_ ? best_.name() : "read_in_order"};
    point.more = {{"kernel", kernel_of(layer_)},
                  {"group", workload.spec.num_qo_heads / workload.spec.num_kv_heads},
                  {"kv_bytes", kv_bytes_},
                  {"copies", num_copies_},
                  {"calls", num_calls_},
                  {"gb_per_s", gb_per_s(0)},
                  {"gflop_per_s", bench::flops_of(workload) / point.us.median / 1e3},
                  {"against_gb_per_s", gb_per_s(against)},
                  {"read_gb_per_s", gb_per_s(1)}};
    const double of_reading = load_ ? bench::median(bench::ratios(times[1], times[2])) : 1.0;
    point.more["load_over_read"] = of_reading;
    point.more["void"] = kv_bytes_ >= kTellingBytes && of_reading < kLeastOfReading;
    return point;
  }

 private:
  /// The fastest of its ways to be launched.
  void choose_load() {
    double best_time = 0;
    for (const bench::LoadConfig& config : bench::load_configs()) {
      bench::Gpu::Chain chain(gpu_, num_calls_, [&](int i) {
        const KvCache& cache = layer_.cache(i);
        gpu_.load_only(config, *list_, cache.k.data, cache.v.data);
      });
      chain.microseconds();
      const double time = std::min(chain.microseconds(), chain.microseconds());
      if (!load_ || time < best_time) {
        best_time = time;
        best_ = config;
        load_.emplace(std::move(chain));
      }
    }
  }

  const bench::Gpu& gpu_;
  std::int64_t kv_bytes_;
  int num_copies_, num_calls_;
  bench::Layer layer_;
  std::optional<bench::LoadList> list_;
  bench::LoadConfig best_;
  std::optional<bench::Gpu::Chain> engine_, read_, load_;
};

/// A loop of mma.sync products of about a millisecond.
class MultiplyPeak {
 public:
  explicit MultiplyPeak(const bench::Gpu& gpu) {
    constexpr double kAimMicroseconds = 1000;
    std::int64_t steps = 1000;
    const auto chain = [&] { return bench::Gpu::Chain(gpu, 1, [&](int) { flops_ = gpu.multiply(steps); }); };
    const bench::Gpu::Chain first = chain();
    first.microseconds();
    steps = static_cast<std::int64_t>(static_cast<double>(steps) * kAimMicroseconds / first.microseconds()) + 1;
    chain_.emplace(chain());
  }
  double microseconds() const { return chain_->microseconds(); }
  double flops() const { return flops_; }

 private:
  double flops_ = 0;
  std::optional<bench::Gpu::Chain> chain_;
};

Point measure_prefill(const bench::Gpu& gpu, const bench::Workload& workload, const MultiplyPeak& peak, int rounds) {
  constexpr int kCopies = 2;
  bench::Layer layer(gpu.engine(), workload, kCopies, &gpu);
  layer.run(0);
  const bench::Gpu::Chain engine(gpu, kCopies, [&](int i) { layer.run(i); });
  const bench::SelfTimed contestants[] = {{"fovea", [&] { return engine.microseconds(); }},
                                          {"mma_bf16", [&] { return peak.microseconds(); }}};
  const auto times = turns(contestants, workload.name, rounds);
  const double flops = bench::flops_of(workload);
  Point point{.workload = workload.name,
              .us = bench::quantiles(times[0]),
              .ratio = bench::median(bench::ratios(times[1], times[0])) * flops / peak.flops(),
              .against = "mma_bf16"};
  point.more = {{"kernel", kernel_of(layer)},
                {"tflop_per_s", flops / point.us.median / 1e6},
                {"gflop", flops / 1e9},
                {"mma_peak_tflop_per_s", peak.flops() / bench::median(times[1]) / 1e6}};
  return point;
}

/// Points that the engine refuses are said and left out, unless they were asked for by name.
template <class Measure>
std::vector<Point> measure_all(const std::vector<bench::GpuPoint>& wanted, bool by_name, const Results& results, const Measure& measure) {
  std::vector<Point> points;
  for (const bench::GpuPoint& point : wanted) {
    try {
      points.push_back(measure(point));
    } catch (const Unsupported& error) {
      if (by_name) {
        throw;
      }
      results.print("{:<38}not served: {}\n", point.workload.name, error.what());
    }
  }
  return points;
}

Json json_on_gpu(const std::vector<Point>& points, const Engine& engine) {
  Json list = Json::array();
  for (const Point& point : points) {
    list.push_back(json_of(point));
  }
  return {{"engine", engine.describe()}, {"points", list}};
}

std::string deciles(const Point& point) { return duration_text(point.us.p10) + " .. " + duration_text(point.us.p90); }

/// Time over that of the same tokens evenly spread.
void add_over_even(Point& point, const std::string& even, const std::vector<Point>& before) {
  const auto found = std::find_if(before.begin(), before.end(), [&](const Point& other) { return other.workload == even; });
  if (found != before.end()) {
    point.more["even"] = even;
    point.more["time_over_even"] = point.us.median / found->us.median;
  }
}

}  // namespace

int bench_decode_on_gpu(const Engine& engine, const GpuBenchOptions& options, Results& results) {
  constexpr int kVoid = 1;
  const bench::Gpu gpu(engine);
  results.print("{}\n", engine.describe());
  results.print("{:<38}{:>10}{:>24}{:>8}{:>7}  {}\n", "workload", "median", "p10 .. p90", "GB/s", "ratio",
                "against (GB/s; of reading in order)");
  bool is_void = false;
  std::vector<Point> done;
  measure_all(points_of(options, bench::gpu_decode_points()), !options.workloads.empty(), results, [&](const bench::GpuPoint& wanted) {
    Point point = DecodeMatch(gpu, wanted.workload).measure(options.rounds);
    add_over_even(point, wanted.even, done);
    const Json& more = point.more;
    const std::string skew = more.contains("time_over_even") ? fmt::format("; {:.2f} x even", more["time_over_even"].get<double>()) : "";
    const bool point_is_void = more["void"].get<bool>();
    is_void = is_void || point_is_void;
    results.print("{:<38}{:>10}{:>24}{:>8.0f}{:>7.3f}  {} ({:.0f}; {:.3f}){}{}\n", point.workload, duration_text(point.us.median),
                  deciles(point), more["gb_per_s"].get<double>(), point.ratio, point.against, more["against_gb_per_s"].get<double>(),
                  more["load_over_read"].get<double>(), skew, point_is_void ? "; VOID" : "");
    done.push_back(point);
    return point;
  });
  results.write(json_on_gpu(done, engine));
  if (is_void) {
    fmt::print(stderr,
               "fovea: the load-only kernel did not reach {:.0f} % of reading in order in points marked void: their ratios say nothing\n",
               100 * kLeastOfReading);
    return kVoid;
  }
  return 0;
}

int bench_prefill_on_gpu(const Engine& engine, const GpuBenchOptions& options, Results& results) {
  const bench::Gpu gpu(engine);
  const MultiplyPeak peak(gpu);
  results.print("{}\n", engine.describe());
  results.print("{:<38}{:>10}{:>24}{:>9}{:>8}  {}\n", "workload", "median", "p10 .. p90", "TFLOP/s", "ratio", "against (TFLOP/s)");
  const std::vector<Point> points =
      measure_all(points_of(options, bench::gpu_prefill_points()), !options.workloads.empty(), results, [&](const bench::GpuPoint& wanted) {
        Point point = measure_prefill(gpu, wanted.workload, peak, options.rounds);
        results.print("{:<38}{:>10}{:>24}{:>9.1f}{:>8.3f}  {} ({:.0f})\n", point.workload, duration_text(point.us.median), deciles(point),
                      point.more["tflop_per_s"].get<double>(), point.ratio, point.against,
                      point.more["mma_peak_tflop_per_s"].get<double>());
        return point;
      });
  results.write(json_on_gpu(points, engine));
  return 0;
}

}  // namespace fovea::cli
