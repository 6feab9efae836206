#include "cli/replay_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "bench/machine.h"
#include "cli/terminal.h"

namespace fovea::cli {
namespace {

using serving::Percentiles;
using serving::StepRecord;

constexpr std::size_t kMaxRows = 1000;  // of the time line: what a plot can show
constexpr int kCurvePoints = 201;

template <class Field>
std::vector<double> column(const std::vector<StepRecord>& steps, Field field) {
  std::vector<double> values;
  values.reserve(steps.size());
  for (const StepRecord& step : steps) {
    values.push_back(std::invoke(field, step));
  }
  return values;
}

double sum(const std::vector<double>& values) {
  double total = 0;
  for (const double value : values) {
    total += value;
  }
  return total;
}

Json json_of(const Percentiles& p, double factor = 1) {
  return {{"p50", p.p50 * factor}, {"p90", p.p90 * factor}, {"p99", p.p99 * factor}};
}

Json json_of(const Ceilings& ceilings) {
  return {{"read_gb_per_s", ceilings.read_gb_per_s}, {"fma_gflop_per_s", ceilings.fma_gflop_per_s}, {"fma", ceilings.fma}};
}

Json json_of(const std::vector<CompileRecord>& compiled) {
  Json list = Json::array();
  for (const CompileRecord& record : compiled) {
    list.push_back({{"variant", record.variant},
                    {"target", record.target},
                    {"compiler", record.compiler},
                    {"cached", record.cached},
                    {"seconds", record.seconds},
                    {"unix_time", std::chrono::duration<double>(record.when.time_since_epoch()).count()}});
  }
  return list;
}

/// Milliseconds at shares 0, 1 / 200, ... 1 of samples in microseconds: enough to draw a distribution.
Json curve_of(std::vector<double> samples) {
  Json curve = Json::array();
  std::sort(samples.begin(), samples.end());
  for (int i = 0; i < kCurvePoints && !samples.empty(); ++i) {
    curve.push_back(serving::percentile(samples, i / (kCurvePoints - 1.0)) * 1e-3);
  }
  return curve;
}

/// Rates over steps that a condition holds for.
struct Rates {
  double seconds = 0, flops = 0, bytes = 0;
  void add(const StepRecord& step) {
    seconds += (step.run_us + step.graph_us) * 1e-6;
    flops += step.flops;
    bytes += step.kv_bytes;
  }
  double gflop_per_s() const { return seconds > 0 ? flops / seconds * 1e-9 : 0; }
  double gb_per_s() const { return seconds > 0 ? bytes / seconds * 1e-9 : 0; }
};

struct AllRates {
  Rates all, decode, prefill;
};

AllRates rates_of(const std::vector<StepRecord>& steps) {
  AllRates rates;
  for (const StepRecord& step : steps) {
    rates.all.add(step);
    (step.prefill_tokens == 0 ? rates.decode : rates.prefill).add(step);
  }
  return rates;
}

double plan_share(const std::vector<StepRecord>& steps) {
  const double all = sum(column(steps, &StepRecord::step_us));
  return all > 0 ? sum(column(steps, &StepRecord::plan_us)) / all : 0;
}

/// Of the time that host and GPU work in the steps, one after the other or at the same time.
double host_share(const std::vector<StepRecord>& steps) {
  const double host = sum(column(steps, &StepRecord::host_us)), gpu = sum(column(steps, &StepRecord::gpu_us));
  return host + gpu > 0 ? host / (host + gpu) : 0;
}

/// Adjacent steps together, so that there are at most kMaxRows rows: sums, and means of what is a state.
Json timeline_of(const std::vector<StepRecord>& steps) {
  const std::size_t per_row = std::max<std::size_t>(1, (steps.size() + kMaxRows - 1) / kMaxRows);
  Json rows = Json::object();
  const char* const names[] = {"begin_s",    "steps",          "step_ms",       "plan_us",    "run_ms",    "requests",
                               "waiting",    "prefill_tokens", "decode_tokens", "hit_tokens", "preempted", "pages_used",
                               "pages_idle", "gflop",          "kv_mb",         "host_us",    "gpu_us"};
  for (const char* name : names) {
    rows[name] = Json::array();
  }
  for (std::size_t begin = 0; begin < steps.size(); begin += per_row) {
    const std::size_t end = std::min(begin + per_row, steps.size());
    const auto total = [&](auto field) {
      double value = 0;
      for (std::size_t i = begin; i < end; ++i) {
        value += static_cast<double>(std::invoke(field, steps[i]));
      }
      return value;
    };
    const auto mean = [&](auto field) { return total(field) / static_cast<double>(end - begin); };
    rows["begin_s"].push_back(static_cast<double>(steps[begin].begin_us) * 1e-6);
    rows["steps"].push_back(end - begin);
    rows["step_ms"].push_back(total(&StepRecord::step_us) * 1e-3);
    rows["plan_us"].push_back(total(&StepRecord::plan_us));
    rows["run_ms"].push_back(total(&StepRecord::run_us) * 1e-3);
    rows["requests"].push_back(mean(&StepRecord::requests));
    rows["waiting"].push_back(mean(&StepRecord::waiting));
    rows["prefill_tokens"].push_back(total(&StepRecord::prefill_tokens));
    rows["decode_tokens"].push_back(total(&StepRecord::decode_tokens));
    rows["hit_tokens"].push_back(total(&StepRecord::hit_tokens));
    rows["preempted"].push_back(total(&StepRecord::preempted));
    rows["pages_used"].push_back(mean(&StepRecord::pages_used));
    rows["pages_idle"].push_back(mean(&StepRecord::pages_idle));
    rows["gflop"].push_back(total(&StepRecord::flops) * 1e-9);
    rows["kv_mb"].push_back(total(&StepRecord::kv_bytes) * 1e-6);
    rows["host_us"].push_back(total(&StepRecord::host_us));
    rows["gpu_us"].push_back(total(&StepRecord::gpu_us));
  }
  return rows;
}

Json json_of_options(const ReplaySummary& s) {
  const serving::ReplayOptions& o = s.options;
  return {{"model", o.model.name},
          {"layers", s.replay.num_layers()},
          {"layers_of_model", o.model.num_layers},
          {"shrink", o.shrink},
          {"token_budget", o.scheduling.token_budget},
          {"max_requests", o.scheduling.max_requests},
          {"page_size", o.scheduling.page_size},
          {"pages", o.scheduling.num_pages},
          {"kv_dtype", name_of(o.kv_dtype)},
          {"prefix_reuse", o.scheduling.prefix_reuse},
          {"seed", o.seed},
          {"check", o.check_steps},
          {"graphs", o.graphs},
          {"plan", o.device_plan ? "device" : "host"}};
}

double hit_rate(const serving::SchedulerTotals& totals) {
  return totals.looked_up_tokens > 0 ? static_cast<double>(totals.hit_tokens) / static_cast<double>(totals.looked_up_tokens) : 0;
}

/// What happened: the same on every machine.
Json json_of_counts(const ReplaySummary& s) {
  const serving::SchedulerTotals& totals = s.result.totals;
  return {{"interrupted", s.interrupted},
          {"requests", totals.finished},
          {"rejected", totals.rejected},
          {"steps", totals.steps},
          {"planned_steps", s.replay.rehearsed().steps},
          {"prompt_tokens", totals.prompt_tokens},
          {"output_tokens", totals.output_tokens},
          {"computed_tokens", totals.computed_tokens},
          {"recomputed_tokens", totals.recomputed_tokens},
          {"cache_hit_tokens", totals.hit_tokens},
          {"cache_hit_rate", hit_rate(totals)},
          {"mixed_steps", totals.mixed_steps},
          {"chunked_prefills", totals.chunked_prefills},
          {"preemptions", totals.preemptions},
          {"evictions", totals.evictions},
          {"kv_cache_bytes", s.replay.kv_cache_bytes()},
          {"workspace_bytes", s.replay.workspace_bytes()},
          {"checked_steps", s.result.checked_steps},
          {"checked_pairs", s.result.checked_pairs},
          {"mismatched_steps", s.result.mismatched_steps},
          {"worst_error", s.result.worst_error},
          {"first_mismatch", s.result.first_mismatch},
          {"output_digest", fmt::format("{:016x}", s.result.output_digest)},
          {"compiled", json_of(s.result.compiled)},
          {"compiles_after_prepare", s.result.compiles_after_prepare}};
}

/// How long it took.
Json json_of_times(const ReplaySummary& s) {
  const std::vector<StepRecord>& steps = s.result.steps;
  const AllRates rates = rates_of(steps);
  const std::vector<double> step_us = column(steps, &StepRecord::step_us);
  const double seconds = sum(step_us) * 1e-6;
  return {{"tokens_per_s", seconds > 0 ? static_cast<double>(s.result.totals.computed_tokens) / seconds : 0},
          {"step_ms", json_of(serving::percentiles(step_us), 1e-3)},
          {"plan_us", json_of(serving::percentiles(column(steps, &StepRecord::plan_us)))},
          {"append_us", json_of(serving::percentiles(column(steps, &StepRecord::append_us)))},
          {"run_us", json_of(serving::percentiles(column(steps, &StepRecord::run_us)))},
          {"graph_us", json_of(serving::percentiles(column(steps, &StepRecord::graph_us)))},
          {"launch_us", json_of(serving::percentiles(column(steps, &StepRecord::launch_us)))},
          {"host_us", json_of(serving::percentiles(column(steps, &StepRecord::host_us)))},
          {"gpu_us", json_of(serving::percentiles(column(steps, &StepRecord::gpu_us)))},
          {"host_share", host_share(steps)},
          {"plan_share", plan_share(steps)},
          {"first_token_ms", json_of(s.result.first_token_us, 1e-3)},
          {"inter_token_ms", json_of(s.result.inter_token_us, 1e-3)},
          {"gb_per_s", rates.all.gb_per_s()},
          {"gflop_per_s", rates.all.gflop_per_s()},
          {"decode_gb_per_s", rates.decode.gb_per_s()},
          {"prefill_gflop_per_s", rates.prefill.gflop_per_s()},
          {"ceilings", json_of(s.ceilings)},
          {"prepare_ms", s.result.prepare_us * 1e-3},
          {"seconds",
           {{"all", s.wall_s},
            {"steps", seconds},
            {"inputs", s.result.inputs_us * 1e-6},
            {"digest", s.result.digest_us * 1e-6},
            {"check", s.result.check_us * 1e-6}}},
          {"curves",
           {{"first_token_ms", curve_of(s.result.first_token_samples)},
            {"inter_token_ms", curve_of(s.result.inter_token_samples)},
            {"step_ms", curve_of(step_us)}}}};
}

bool on_gpu(const ReplaySummary& s) { return s.options.engine.backend == "cuda"; }

/// `value` is 0 where no step was of the kind.
std::string rate_text(double value, const char* unit, double ceiling, const std::string& of_what) {
  const std::string share = ceiling > 0 ? fmt::format(" ({:.0f} % of {:.0f} {})", 100 * value / ceiling, ceiling, of_what) : "";
  return value > 0 ? fmt::format("{:.1f} {}{}", value, unit, share) : "none";
}

std::string row(const std::string& name, const std::string& text) { return fmt::format("  {:<22}{}\n", name, text); }

std::string row(const std::string& name, const Percentiles& us, bool any = true) {
  return !any ? row(name, "none")
              : row(name, fmt::format("{:>9} {:>9} {:>9}", duration_text(us.p50), duration_text(us.p90), duration_text(us.p99)));
}

/// What a step is made of.
std::string part_rows(const ReplaySummary& s) {
  const std::vector<StepRecord>& steps = s.result.steps;
  const auto part = [&](const std::string& name, double StepRecord::*field) {
    return row(name, serving::percentiles(column(steps, field)));
  };
  std::string text;
  if (!s.options.graphs || !s.options.device_plan) {
    text += part(s.options.device_plan ? "  plan (GPU)" : "  plan", &StepRecord::plan_us);
  }
  if (s.options.graphs) {
    text += part("  graph", &StepRecord::graph_us);
  } else {
    text += part("  append", &StepRecord::append_us) + part("  run", &StepRecord::run_us);
  }
  if (on_gpu(s)) {
    text += part("host's share", &StepRecord::host_us) + part("GPU's share", &StepRecord::gpu_us);
  }
  return text;
}

}  // namespace

Json json_of(const ReplaySummary& s) {
  const bench::Machine machine = bench::this_machine();
  Json json = {{"trace",
                {{"name", s.trace.name},
                 {"format", s.trace.format},
                 {"requests", s.trace.requests.size()},
                 {"skipped_lines", s.trace.skipped_lines},
                 {"first_skipped", s.trace.first_skipped}}},
               {"options", json_of_options(s)},
               {"device", s.options.engine.backend},
               {"engine", s.replay.describe_engine()},
               {"cpu", machine.cpu},
               {"cores", machine.num_cores}};
  json.update(json_of_counts(s));
  json.update(json_of_times(s));
  json["timeline"] = timeline_of(s.result.steps);
  return json;
}

std::string text_of(const ReplaySummary& s) {
  const serving::SchedulerTotals& totals = s.result.totals;
  const std::vector<StepRecord>& steps = s.result.steps;
  const AllRates rates = rates_of(steps);
  const double seconds = sum(column(steps, &StepRecord::step_us)) * 1e-6;
  const auto tokens = [](std::int64_t count) { return grouped(count); };
  std::string text;
  text += row("requests",
              fmt::format("{} finished of {}{}", tokens(totals.finished), tokens(static_cast<std::int64_t>(s.trace.requests.size())),
                          totals.rejected > 0 ? fmt::format(", {} longer than the cache and rejected", totals.rejected) : ""));
  if (s.trace.skipped_lines > 0) {
    text += row("skipped lines", fmt::format("{}; the first: {}", s.trace.skipped_lines, s.trace.first_skipped));
  }
  text += row("tokens", fmt::format("{} of prompts, {} generated; {} computed, {} of them again", tokens(totals.prompt_tokens),
                                    tokens(totals.output_tokens), tokens(totals.computed_tokens), tokens(totals.recomputed_tokens)));
  text +=
      row("prefix cache", fmt::format("{} tokens found, {:.1f} % of those looked up", tokens(totals.hit_tokens), 100 * hit_rate(totals)));
  text += row("steps", fmt::format("{}, {} of them mixed; {} prompts in pieces, {} preemptions, {} evictions", tokens(totals.steps),
                                   tokens(totals.mixed_steps), tokens(totals.chunked_prefills), tokens(totals.preemptions),
                                   tokens(totals.evictions)));
  text += row("throughput",
              fmt::format("{} tokens/s over {:.2f} s of steps, {} of {} layers",
                          tokens(seconds > 0 ? static_cast<std::int64_t>(static_cast<double>(totals.computed_tokens) / seconds) : 0),
                          seconds, s.replay.num_layers(), s.options.model.num_layers));
  text += row("decode steps", rate_text(rates.decode.gb_per_s(), "GB/s of K and V", s.ceilings.read_gb_per_s, "from memory"));
  text += row("steps with prefill", rate_text(rates.prefill.gflop_per_s(), "GFLOP/s", s.ceilings.fma_gflop_per_s, s.ceilings.fma));
  text += row("", fmt::format("{:>9} {:>9} {:>9}", "p50", "p90", "p99"));
  text += row("step", serving::percentiles(column(steps, &StepRecord::step_us)));
  text += part_rows(s);
  text += row("first token", s.result.first_token_us, !s.result.first_token_samples.empty());
  text += row("between tokens", s.result.inter_token_us, !s.result.inter_token_samples.empty());
  text += row("plan share", fmt::format("{:.2f} % of the steps' time", 100 * plan_share(steps)));
  if (on_gpu(s)) {
    const double share = host_share(steps);
    text +=
        row("host : GPU", fmt::format("{:.2f} % : {:.2f} % of the time that either works in steps; of the host's, {:.2f} s are launches",
                                      100 * share, 100 * (1 - share), sum(column(steps, &StepRecord::launch_us)) * 1e-6));
  }
  text += row("compiled", fmt::format("{} in prepare ({}), {} after it", s.result.compiled.size(), duration_text(s.result.prepare_us),
                                      s.result.compiles_after_prepare));
  if (s.options.check_steps > 0) {
    text += row("checked",
                fmt::format("{} steps, {} (row, head) pairs: {} steps wrong, largest error {:.2f} of its bound", s.result.checked_steps,
                            tokens(s.result.checked_pairs), s.result.mismatched_steps, s.result.worst_error));
  }
  text += row("output digest", fmt::format("{:016x}", s.result.output_digest));
  text += row("wall time", fmt::format("{:.1f} s: steps {:.1f}, inputs {:.1f}, digest {:.1f}, checks {:.1f}", s.wall_s, seconds,
                                       s.result.inputs_us * 1e-6, s.result.digest_us * 1e-6, s.result.check_us * 1e-6));
  return text;
}

}  // namespace fovea::cli
