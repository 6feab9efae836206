// fovea bench prefill: the share of the float32 multiply-add peak that prefill reaches. bench/torch_prefill.py sets it beside PyTorch.
#include <fmt/format.h>

#include <memory>

#include "bench/layer.h"
#include "bench/peaks.h"
#include "cli/bench_gpu.h"
#include "cli/bench_points.h"
#include "cli/commands.h"

namespace fovea::cli {
namespace {

struct PrefillOptions {
  EngineChoice engine;
  std::string json;
  std::vector<std::string> workloads;
  VariantChoice rule;
  std::int64_t pairs = 9;
};

Point measure(const Engine& engine, const bench::Workload& workload, const FmaPeak& fma, int pairs) {
  bench::Layer layer(engine, workload, 1);  // a prompt's KV is read many times: nothing to keep cold
  const bench::Contestant contestants[] = {{"fovea", [&] { layer.run(0); }}, {fma.name(), [&] { fma.run(); }}};
  Progress progress(workload.name, 1);
  const auto times = bench::take_turns(contestants, pairs, [&](int done, int total) { progress.update(done, std::int64_t{total}); });
  const double flops = bench::flops_of(workload);
  Point point{.workload = fmt::format("{}_g{}", workload.name, workload.spec.num_qo_heads / workload.spec.num_kv_heads),
              .us = bench::quantiles(times[0]),
              .ratio = bench::median(bench::ratios(times[1], times[0])) * flops / fma.flops(),
              .against = fma.name()};
  point.more = {{"gflop_per_s", flops / point.us.median / 1e3},
                {"gflop", flops / 1e9},
                {"fma_peak_gflop_per_s", fma.flops() / bench::median(times[1]) / 1e3}};
  return point;
}

int run_prefill(const PrefillOptions& options) {
  Results results("bench prefill", options.json);
  const Engine engine(options.engine.options());
  if (engine.device().type == DeviceType::cuda) {
    options.rule.refuse("on a GPU what is timed comes with its variant");
    return bench_prefill_on_gpu(engine, {.workloads = options.workloads, .rounds = static_cast<int>(options.pairs)}, results);
  }
  const std::vector<std::string> otherwise = {"prefill_b1_2k", "prefill_b1_8k"};
  std::vector<bench::Workload> workloads;
  for (const std::string& name : options.workloads.empty() ? otherwise : options.workloads) {
    workloads.push_back(bench::load_workload(name));
    options.rule.apply(workloads.back());
  }
  const bench::Peaks peaks(static_cast<int>(options.engine.num_threads));
  const FmaPeak fma(peaks, bench::isa_in(options.engine.isa.empty() ? engine.describe() : options.engine.isa));
  results.print("{}", machine_line(engine.describe()));
  results.print("{:<22}{:>10}{:>22}{:>9}{:>8}  {}\n", "workload", "median", "p10 .. p90", "GFLOP/s", "ratio", "against");
  std::vector<Point> points;
  for (const bench::Workload& workload : workloads) {
    points.push_back(measure(engine, workload, fma, static_cast<int>(options.pairs)));
    const Point& point = points.back();
    results.print("{:<22}{:>10}{:>22}{:>9.1f}{:>8.2f}  {}, {:.0f} GFLOP/s\n", point.workload, duration_text(point.us.median),
                  duration_text(point.us.p10) + " .. " + duration_text(point.us.p90), point.more["gflop_per_s"].get<double>(), point.ratio,
                  point.against, point.more["fma_peak_gflop_per_s"].get<double>());
  }
  results.write(json_of(points, peaks.num_threads()));
  return 0;
}

}  // namespace

void add_bench_prefill(CLI::App& bench, Action& action) {
  auto options = std::make_shared<PrefillOptions>();
  CLI::App* command = bench.add_subcommand("prefill", "Prefill against the machine's float32 multiply-add peak");
  options->engine.add_to(*command);
  command
      ->add_option("--workload", options->workloads, "Workloads instead of prefill_b1_2k and prefill_b1_8k; on a GPU, of 1k to 16k tokens")
      ->type_name("NAME");
  add_integer(*command, "--pairs", options->pairs, 1, 10000, "Rounds in which engine and multiply-add loop take turns");
  options->rule.add_to(*command, "Rule of all workloads (on a CPU)");
  add_json_option(*command, options->json);
  command->footer("With --backend cuda: the GPU's time of calls in graphs, against bf16 products of mma.sync in registers.");
  command->callback([options, &action] { action = [options] { return run_prefill(*options); }; });
}

}  // namespace fovea::cli
