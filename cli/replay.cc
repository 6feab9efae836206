// fovea replay: a production serving trace through the engine, step by step.
#include "serving/replay.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "bench/gpu.h"
#include "bench/layer.h"
#include "bench/machine.h"
#include "cli/bench_points.h"
#include "cli/commands.h"
#include "cli/replay_report.h"
#include "cli/results.h"
#include "cli/terminal.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

struct ReplayChoice {
  std::string trace, model = "llama-3.1-8b", kv_dtype = "bf16", json, graphs = "off", plan = "host";
  EngineChoice engine;
  std::int64_t requests = 0, layers = 0, shrink = 1, token_budget = 2048, max_requests = 64, page_size = 16, kv_tokens = 65536, seed = 1,
               check = 10;
  bool skip_bad = false, no_prefix_reuse = false;
};

/// One of two words; true: the second.
bool is_second(const char* option, const std::string& given, const char* first, const char* second) {
  if (given != first && given != second) {
    throw InvalidArgument(fmt::format("{}: '{}' is not known; give {} or {}", option, given, first, second));
  }
  return given == second;
}

serving::ReplayOptions options_of(const ReplayChoice& choice) {
  const std::int64_t num_pages = choice.kv_tokens / choice.page_size;
  if (num_pages == 0) {
    throw InvalidArgument(fmt::format("--kv-tokens: {} tokens are less than one page of {} (--page-size); give at least that",
                                      choice.kv_tokens, choice.page_size));
  }
  serving::Model model = serving::find_model(choice.model);
  if (choice.layers > model.num_layers) {
    throw InvalidArgument(
        fmt::format("--layers: {}, but {} has {}; give 1..{}", choice.layers, model.name, model.num_layers, model.num_layers));
  }
  return {.model = std::move(model),
          .engine = choice.engine.options("--device"),
          .num_layers = static_cast<std::int32_t>(choice.layers),
          .kv_dtype = bench::parse_dtype("--kv-dtype", choice.kv_dtype),
          .seed = static_cast<std::uint64_t>(choice.seed),
          .shrink = static_cast<std::int32_t>(choice.shrink),
          .check_steps = choice.check,
          .graphs = is_second("--graphs", choice.graphs, "off", "on"),
          .device_plan = is_second("--plan", choice.plan, "host", "device"),
          .scheduling = {.token_budget = static_cast<std::int32_t>(choice.token_budget),
                         .max_requests = static_cast<std::int32_t>(choice.max_requests),
                         .page_size = static_cast<std::int32_t>(choice.page_size),
                         .num_pages = static_cast<std::int32_t>(num_pages),
                         .prefix_reuse = !choice.no_prefix_reuse}};
}

/// Where the cache is in the machine's memory: a device says so itself.
void check_memory(const serving::ReplayOptions& options) {
  if (options.engine.backend == "cuda") {
    return;
  }
  const std::int64_t layers = options.num_layers > 0 ? options.num_layers : static_cast<std::int64_t>(options.model.windows.size());
  const std::int64_t wanted = serving::layer_cache_bytes(options) * layers;
  const std::int64_t room = bench::this_machine().available_bytes;
  if (room > 0 && wanted > room / 10 * 9) {
    throw InvalidArgument(
        fmt::format("--kv-tokens: a cache of {} tokens and {} layer{} takes {}, but {} are free; give fewer --kv-tokens or --layers",
                    std::int64_t{options.scheduling.num_pages} * options.scheduling.page_size, layers, layers == 1 ? "" : "s",
                    bytes_text(wanted), bytes_text(room)));
  }
}

/// The instructions that do most of the work: with bf16 on both sides, processors that have them use products of bf16 pairs.
bench::Isa isa_of(const serving::ReplayOptions& options, const std::string& engine) {
  const std::string& text = options.engine.isa.empty() ? engine : options.engine.isa;
  const bool pairs = options.kv_dtype == DType::bf16 && text.find("avx512_bf16") != std::string::npos;
  return pairs ? bench::Isa::avx512_bf16 : bench::isa_in(text);
}

/// Reading memory in order, and products of mma.sync.
Ceilings measure_gpu_ceilings(const EngineOptions& options) {
  constexpr std::size_t kBytes = 1 << 30;
  constexpr std::int64_t kSteps = 20'000;
  constexpr int kRounds = 5;
  Ceilings ceilings{.fma = "mma_bf16"};
  try {
    const bench::Gpu gpu{Engine(options)};
    const DeviceBuffer memory(gpu.engine(), kBytes);
    gpu.fill_random(memory, DType::bf16, 1);
    double flops = 0;
    const bench::Gpu::Chain read(gpu, 1, [&](int) { gpu.read_in_order(memory.data(), kBytes); });
    const bench::Gpu::Chain multiply(gpu, 1, [&](int) { flops = gpu.multiply(kSteps); });
    for (int round = 0; round < kRounds; ++round) {
      ceilings.read_gb_per_s = std::max(ceilings.read_gb_per_s, static_cast<double>(kBytes) / read.microseconds() / 1e3);
      ceilings.fma_gflop_per_s = std::max(ceilings.fma_gflop_per_s, flops / multiply.microseconds() / 1e3);
    }
  } catch (const Error&) {  // NOLINT: no memory left beside the cache, or nothing to compile with: not measured
    return {};
  }
  return ceilings;
}

/// The fastest read loop over memory that is in no cache, and the fastest multiply-adds.
Ceilings measure_ceilings(const serving::ReplayOptions& options, const std::string& engine) {
  if (options.engine.backend == "cuda") {
    return measure_gpu_ceilings(options.engine);
  }
  if (options.engine.backend != "cpu") {
    return {};
  }
  constexpr std::int64_t kBytes = 256 << 20;
  constexpr int kRounds = 3;
  const bench::Peaks peaks(options.engine.num_threads);
  const FmaPeak fma(peaks, isa_of(options, engine));
  const bench::RandomMemory memory(DType::bf16, kBytes / 2, 1);
  Ceilings ceilings{.fma = fma.name()};
  for (int round = 0; round < kRounds; ++round) {
    ceilings.fma_gflop_per_s = std::max(ceilings.fma_gflop_per_s, fma.flops() / bench::microseconds_of([&] { fma.run(); }) / 1e3);
    for (const bench::ReadLoop loop : bench::kReadLoops) {
      const double us = bench::microseconds_of([&] { peaks.read(loop, {memory.data(), static_cast<std::size_t>(kBytes)}); });
      ceilings.read_gb_per_s = std::max(ceilings.read_gb_per_s, static_cast<double>(kBytes) / us / 1e3);
    }
  }
  return ceilings;
}

/// All steps, or those until Ctrl-C: then false, unless that were all.
bool run_steps(serving::Replay& replay) {
  Progress progress("replay", replay.rehearsed().computed_tokens);
  try {
    while (replay.step()) {
      const serving::SchedulerTotals& totals = replay.totals();
      progress.update(totals.computed_tokens, fmt::format("step {}, {} requests done", totals.steps, totals.finished));
    }
  } catch (const Interrupted&) {
    return replay.totals().steps == replay.rehearsed().steps;
  }
  return true;
}

int run_replay(const ReplayChoice& choice) {
  constexpr int kMismatch = 1, kInterrupted = 130;
  if (choice.trace.empty()) {
    throw InvalidArgument("replay: no trace given; name a file such as traces/chat.jsonl");
  }
  const serving::ReplayOptions options = options_of(choice);
  Results results("replay", choice.json);
  const serving::Trace trace = serving::read_trace(choice.trace, {.max_requests = choice.requests, .skip_bad = choice.skip_bad});
  check_memory(options);
  serving::Replay replay(trace, options);
  const serving::SchedulerTotals& ahead = replay.rehearsed();
  results.print("{}", machine_line(replay.describe_engine()));
  results.print("{}: {} requests; {}, {} of {} layers, {} of K and V; {} steps, {} tokens to compute\n", trace.name,
                grouped(static_cast<std::int64_t>(trace.requests.size())), options.model.name, replay.num_layers(),
                options.model.num_layers, bytes_text(replay.kv_cache_bytes()), grouped(ahead.steps), grouped(ahead.computed_tokens));
  Ceilings ceilings = measure_ceilings(options, replay.describe_engine());
  bool finished = false;
  const double us = bench::microseconds_of([&] { finished = run_steps(replay); });
  if (finished) {  // a machine that others use too is at its best at one of the two times
    ceilings.raise(measure_ceilings(options, replay.describe_engine()));
  }
  const ReplaySummary summary{.trace = trace,
                              .options = options,
                              .replay = replay,
                              .result = replay.result(),
                              .ceilings = ceilings,
                              .wall_s = us * 1e-6,
                              .interrupted = !finished};
  results.print("{}", text_of(summary));
  results.write(json_of(summary));
  if (summary.result.mismatched_steps > 0) {
    fmt::print(stderr, "fovea: {} of {} checked steps are wrong; the first: {}\n", summary.result.mismatched_steps,
               summary.result.checked_steps, summary.result.first_mismatch);
    return kMismatch;
  }
  if (!finished) {
    fmt::print(stderr, "fovea: interrupted after {} of {} steps; the results are of those\n", summary.result.totals.steps, ahead.steps);
    return kInterrupted;
  }
  return 0;
}

void add_batching_options(CLI::App& command, ReplayChoice& choice) {
  const std::string group = "Serving";
  add_integer(command, "--token-budget", choice.token_budget, 1, 1 << 20, "Tokens computed in a step at most")->group(group);
  add_integer(command, "--max-requests", choice.max_requests, 1, 1 << 14, "Requests in a step at most")->group(group);
  add_integer(command, "--page-size", choice.page_size, 1, 1 << 14, "Tokens per page of the KV cache")->group(group);
  add_integer(command, "--kv-tokens", choice.kv_tokens, 1, std::int64_t{1} << 30, "Tokens that the KV cache has room for")->group(group);
  command.add_flag("--no-prefix-reuse", choice.no_prefix_reuse, "Compute every prompt whole, whatever is in the cache")->group(group);
}

}  // namespace

void add_replay(CLI::App& app, Action& action) {
  auto choice = std::make_shared<ReplayChoice>();
  CLI::App* command = app.add_subcommand("replay", "Replay a serving trace through the engine: batching, paged cache, attention");
  command->add_option("trace", choice->trace, "Mooncake JSON lines or Azure CSV, plain or .gz")->type_name("TRACE");
  command
      ->add_option("--model", choice->model,
                   fmt::format("{}; /tpN: one of N ranks; or a JSON file", fmt::join(serving::model_names(), ", ")))
      ->type_name("M")
      ->default_str(choice->model);
  add_integer(*command, "--requests", choice->requests, 1, 1 << 30, "The first N requests of the trace alone")->default_str("");
  add_integer(*command, "--layers", choice->layers, 1, 1024, "Layers computed; default: one period of the model's windows")
      ->default_str("");
  add_integer(*command, "--shrink", choice->shrink, 1, 512, "One token for N of the trace, windows too; a power of two");
  command->add_option("--kv-dtype", choice->kv_dtype, "Of K and V: bf16, f16, f32, e4m3, e5m2")->type_name("T")->default_str("bf16");
  add_integer(*command, "--seed", choice->seed, 0, INT64_MAX, "Of q, K and V");
  add_integer(*command, "--check", choice->check, 0, 1 << 30, "Compare so many steps, spread over the run, with the reference");
  command->add_flag("--skip-bad", choice->skip_bad, "Skip and count lines that can't be read");
  add_batching_options(*command, *choice);
  const std::string group = "Device";
  command->add_option("--device", choice->engine.backend, "cpu, cuda, cuda:N or reference")
      ->type_name("D")
      ->default_str("cpu")
      ->group(group);
  add_integer(*command, "--threads", choice->engine.num_threads, 0, 4096, "Threads at most; 0: all. Never changes an output")->group(group);
  command->add_option("--isa", choice->engine.isa, "avx2, avx512 or avx512_bf16; default: the fastest this machine runs")
      ->type_name("ISA")
      ->group(group);
  command->add_option("--graphs", choice->graphs, "GPUs: on: all layers of a step as one graph, captured once; off")
      ->type_name("G")
      ->default_str(choice->graphs)
      ->group(group);
  command->add_option("--plan", choice->plan, "GPUs: who plans, from lengths in its memory: host, device (with graphs: inside them)")
      ->type_name("P")
      ->default_str(choice->plan)
      ->group(group);
  add_json_option(*command, choice->json);
  command->footer(
      "Arrivals are on a virtual clock that advances by a fixed cost per step, so that steps and outputs are the same on every\n"
      "machine; latencies are sums of measured step times. Ctrl-C ends with the result so far.\n"
      "Examples:\n"
      "  fovea replay traces/chat.jsonl --shrink 16 --json replay.json\n"
      "  python -m fovea.report replay.json\n"
      "Ends with 1 when a checked step is wrong.");
  command->callback([choice, &action] { action = [choice] { return run_replay(*choice); }; });
}

}  // namespace fovea::cli
