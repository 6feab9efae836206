// fovea bench decode: the share of the memory's speed that decoding reaches, or of the FMA units' where a group shares its keys so often
// that arithmetic is the limit.
#include <fmt/format.h>

#include <memory>

#include "bench/layer.h"
#include "bench/peaks.h"
#include "cli/bench_gpu.h"
#include "cli/bench_points.h"
#include "cli/commands.h"

namespace fovea::cli {
namespace {

constexpr std::int32_t kLargestReadGroup = 8;  // above it the ratio is against FMA peak
constexpr std::int32_t kGroupSizes[] = {1, 4, 8, 16};
constexpr std::int32_t kRequests = 16;
constexpr std::int32_t kKvHeads = 8;
constexpr std::int32_t kHeadDim = 128;
constexpr std::int64_t kBytesPerToken = 2 * 2 * kKvHeads * kHeadDim;  // K and V in bf16

struct DecodeOptions {
  EngineChoice engine;
  std::string json;
  std::vector<std::string> workloads;
  VariantChoice rule;
  std::int64_t pairs = 15, kv_mib = 128;
};

bench::Workload decode_workload(std::int32_t group_size, std::int64_t kv_mib) {
  bench::Workload workload;
  workload.name = fmt::format("decode_bf16_g{}", group_size);
  workload.spec.num_qo_heads = kKvHeads * group_size;
  workload.spec.num_kv_heads = kKvHeads;
  workload.spec.head_dim_qk = kHeadDim;
  workload.spec.formats = {KvFormat::paged(16)};
  const auto tokens = static_cast<std::int32_t>((kv_mib << 20) / kBytesPerToken / kRequests);
  workload.requests.assign(kRequests, {.qo_len = 1, .kv_len = tokens});
  return workload;
}

/// One of this command's own, by the name its point has, or a named workload or file.
bench::Workload workload_named(const std::string& name, std::int64_t kv_mib) {
  for (const std::int32_t group_size : kGroupSizes) {
    if (bench::Workload own = decode_workload(group_size, kv_mib); own.name == name) {
      return own;
    }
  }
  bench::Workload workload = bench::load_workload(name);
  workload.name += fmt::format("_g{}", workload.spec.num_qo_heads / workload.spec.num_kv_heads);
  return workload;
}

std::vector<bench::Workload> workloads_of(const DecodeOptions& options) {
  std::vector<bench::Workload> workloads;
  for (const std::string& name : options.workloads) {
    workloads.push_back(workload_named(name, options.kv_mib));
  }
  for (const std::int32_t group_size : kGroupSizes) {
    if (options.workloads.empty()) {
      workloads.push_back(decode_workload(group_size, options.kv_mib));
    }
  }
  for (bench::Workload& workload : workloads) {
    options.rule.apply(workload);
  }
  return workloads;
}

constexpr std::size_t kNumReadLoops = std::size(bench::kReadLoops);
constexpr std::size_t kFirstRead = 1;  // contestants: the engine, the read loops, the FMA loop
constexpr std::size_t kFma = kFirstRead + kNumReadLoops;

Point point_of(const bench::Workload& workload, std::int64_t bytes, const std::vector<std::vector<double>>& times, const FmaPeak& fma) {
  std::size_t best = kFirstRead;
  Json reads = Json::object();
  for (std::size_t i = 0; i < kNumReadLoops; ++i) {
    reads[bench::name_of(bench::kReadLoops[i])] = bench::median(times[kFirstRead + i]);
    best = bench::median(times[kFirstRead + i]) < bench::median(times[best]) ? kFirstRead + i : best;
  }
  const double flops = bench::flops_of(workload);
  const double read_ratio = bench::median(bench::ratios(times[best], times[0]));
  const double fma_ratio = bench::median(bench::ratios(times[kFma], times[0])) * flops / fma.flops();
  const std::int32_t group_size = workload.spec.num_qo_heads / workload.spec.num_kv_heads;
  const bool by_reading = group_size <= kLargestReadGroup;
  Point point{.workload = workload.name,
              .us = bench::quantiles(times[0]),
              .ratio = by_reading ? read_ratio : fma_ratio,
              .against = by_reading ? bench::name_of(bench::kReadLoops[best - kFirstRead]) : fma.name()};
  point.more = {{"group", group_size},
                {"kv_bytes", bytes},
                {"gb_per_s", static_cast<double>(bytes) / point.us.median / 1e3},
                {"gflop_per_s", flops / point.us.median / 1e3},
                {"read_ratio", read_ratio},
                {"best_read_gb_per_s", static_cast<double>(bytes) / bench::median(times[best]) / 1e3},
                {"fma_ratio", fma_ratio},
                {"fma_peak_gflop_per_s", fma.flops() / bench::median(times[kFma]) / 1e3},
                {"read_median_us", reads}};
  return point;
}

Point measure(const Engine& engine, const bench::Workload& workload, const bench::Peaks& peaks, const FmaPeak& fma, int pairs) {
  const std::int64_t kv_bytes = bench::kv_bytes_of(workload);
  bench::Layer layer(engine, workload, copies_for_cold_caches(kv_bytes));
  int copy = 0;  // every reader takes the copy that was read longest ago
  std::vector<bench::Contestant> contestants = {{"fovea", [&] { layer.run(copy++); }}};
  for (const bench::ReadLoop loop : bench::kReadLoops) {
    // The copies have whole pages, a little more than the tokens: read as many bytes as the engine has to.
    contestants.push_back(
        {bench::name_of(loop), [&, loop] { peaks.read(loop, layer.kv_bytes(copy++).first(static_cast<std::size_t>(kv_bytes))); }});
  }
  contestants.push_back({fma.name(), [&] { fma.run(); }});
  Progress progress(workload.name, 1);
  const auto times = bench::take_turns(contestants, pairs, [&](int done, int total) { progress.update(done, std::int64_t{total}); });
  return point_of(workload, kv_bytes, times, fma);
}

int run_decode(const DecodeOptions& options) {
  Results results("bench decode", options.json);
  const Engine engine(options.engine.options());
  if (engine.device().type == DeviceType::cuda) {
    options.rule.refuse("on a GPU what is timed comes with its variant");
    return bench_decode_on_gpu(engine, {.workloads = options.workloads, .rounds = static_cast<int>(options.pairs)}, results);
  }
  const std::vector<bench::Workload> workloads = workloads_of(options);
  const bench::Peaks peaks(static_cast<int>(options.engine.num_threads));
  const FmaPeak fma(peaks, bench::isa_in(options.engine.isa.empty() ? engine.describe() : options.engine.isa));
  results.print("{}", machine_line(engine.describe()));
  results.print("{:<22}{:>10}{:>22}{:>8}{:>8}  {}\n", "workload", "median", "p10 .. p90", "GB/s", "ratio", "against");
  std::vector<Point> points;
  for (const bench::Workload& workload : workloads) {
    points.push_back(measure(engine, workload, peaks, fma, static_cast<int>(options.pairs)));
    const Point& point = points.back();
    const bool by_reading = point.more["group"].get<int>() <= kLargestReadGroup;
    const std::string rate = by_reading ? fmt::format("{:.1f} GB/s", point.more["best_read_gb_per_s"].get<double>())
                                        : fmt::format("{:.0f} GFLOP/s", point.more["fma_peak_gflop_per_s"].get<double>());
    results.print("{:<22}{:>10}{:>22}{:>8.1f}{:>8.2f}  {}, {}\n", point.workload, duration_text(point.us.median),
                  duration_text(point.us.p10) + " .. " + duration_text(point.us.p90), point.more["gb_per_s"].get<double>(), point.ratio,
                  point.against, rate);
  }
  results.write(json_of(points, peaks.num_threads()));
  return 0;
}

}  // namespace

void add_bench_decode(CLI::App& bench, Action& action) {
  auto options = std::make_shared<DecodeOptions>();
  CLI::App* command = bench.add_subcommand("decode", "Decoding against the fastest way this machine reads the same bytes");
  options->engine.add_to(*command);
  command
      ->add_option("--workload", options->workloads, "These instead of decode_bf16_g1, _g4, _g8 and _g16: some of them, or named workloads")
      ->type_name("NAME");
  add_integer(*command, "--pairs", options->pairs, 1, 10000, "Rounds in which engine and read loops take turns");
  add_integer(*command, "--kv-mib", options->kv_mib, 1, 1 << 20, "MiB of KV per step");
  options->rule.add_to(*command, "Rule of all workloads (on a CPU)");
  add_json_option(*command, options->json);
  command->footer(
      "Ratio: bytes per second against the best of three multi-threaded read loops over the same bytes; for groups above 8\n"
      "floating-point operations per second against a loop of multiply-adds in registers.\n"
      "With --backend cuda: the GPU's time of calls in graphs over cold copies of K and V, against a kernel that reads the same pages\n"
      "and computes nothing; ends with 1 when that kernel is slower than 95 % of reading in order. --kv-mib is not used.");
  command->callback([options, &action] { action = [options] { return run_decode(*options); }; });
}

}  // namespace fovea::cli
