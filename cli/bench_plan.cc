// fovea bench plan: how long planning a step takes, how that grows, and that it allocates nothing.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <numeric>

#include "bench/allocation_count.h"
#include "bench/batch_arrays.h"
#include "bench/random.h"
#include "cli/bench_points.h"
#include "cli/commands.h"

namespace fovea::cli {
namespace {

constexpr std::int32_t kPageSize = 16;
constexpr int kBatches = 4;  // different lengths in turn, or branch predictors learn them
constexpr int kBurst = 20;   // calls of one point before the next one's turn

enum class Lengths { random, zipf };

/// One point: a step of this shape is planned again and again.
struct PlanCase {
  std::int32_t requests = 256;
  std::int32_t pages = 100'000;  // of all requests
  std::int32_t qo_len = 1;
  const char* variant = "causal";
  Lengths lengths = Lengths::random;

  std::string name() const {
    const std::string total = pages % 1'000'000 == 0 ? fmt::format("{}M", pages / 1'000'000) : fmt::format("{}k", pages / 1000);
    const std::string form = qo_len > 1 ? fmt::format("chunks{}", qo_len) : "decode";
    return fmt::format("plan_{}_r{}_p{}_{}_{}", form, requests, total, variant, lengths == Lengths::zipf ? "zipf" : "random");
  }
};

const PlanCase kCases[] = {
    {},
    {.lengths = Lengths::zipf},
    {.variant = "sliding_window"},
    {.variant = "sliding_window", .lengths = Lengths::zipf},
    {.requests = 16},
    {.requests = 1024},
    {.requests = 4096},
    {.pages = 10'000},
    {.pages = 1'000'000},
    {.requests = 64, .qo_len = 512},
};

/// Pages per request, at least enough for the query, adding up to `pages`.
std::vector<std::int32_t> page_counts(const PlanCase& what, std::uint64_t seed) {
  bench::Random random(seed);
  std::vector<double> weights(static_cast<std::size_t>(what.requests));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = what.lengths == Lengths::zipf ? 1.0 / static_cast<double>(i + 1) : static_cast<double>(random.between(1, 2000));
  }
  random.shuffle(std::span(weights));
  const std::int32_t least = (what.qo_len + kPageSize - 1) / kPageSize;
  const double to_share = what.pages - static_cast<double>(least) * what.requests;
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int32_t> counts;
  double shared = 0;
  std::int64_t given = 0;
  for (const double weight : weights) {  // rounding carries over: the sum is exact
    shared += weight / total * to_share;
    const auto upto = static_cast<std::int64_t>(shared + 0.5);
    counts.push_back(static_cast<std::int32_t>(least + upto - given));
    given = upto;
  }
  return counts;
}

bench::Workload workload_of(const PlanCase& what, std::uint64_t seed) {
  bench::Workload workload;
  workload.name = what.name();
  workload.spec.num_qo_heads = 32;
  workload.spec.num_kv_heads = 8;
  workload.spec.head_dim_qk = 128;
  workload.spec.variant = what.variant;
  workload.spec.formats = {KvFormat::paged(kPageSize)};
  if (workload.spec.variant.name == "sliding_window") {
    workload.mask = {{"window_left", std::int64_t{4096}}};
  }
  for (const std::int32_t pages : page_counts(what, seed)) {
    workload.requests.push_back({.qo_len = what.qo_len, .kv_len = pages * kPageSize});
  }
  return workload;
}

/// What most of the work is in. Items of lists have no worker yet.
const char* form_of(const PlanView& view) {
  const auto in_lists = std::count_if(view.work.begin(), view.work.end(), [](const PlannedWork& work) { return work.worker < 0; });
  return static_cast<std::size_t>(in_lists) * 2 > view.work.size() ? "list" : "ranges";
}

/// A prepared point: one plan, several batches.
class PlanSubject {
 public:
  PlanSubject(const Engine& engine, const PlanCase& what, std::int32_t num_workers)
      : what_(what), workload_(workload_of(what, 1)), values_(workload_) {
    Limits limits = bench::limits_of(workload_);
    for (int i = 0; i < kBatches; ++i) {
      const bench::Workload workload = workload_of(what, static_cast<std::uint64_t>(i) + 1);
      const Limits other = bench::limits_of(workload);
      limits.max_kv_tokens_per_request = std::max(limits.max_kv_tokens_per_request, other.max_kv_tokens_per_request);
      limits.max_kv_tokens = std::max(limits.max_kv_tokens, other.max_kv_tokens);
      batches_.emplace_back(workload, false);
      batches_.back().put_pages_on(engine);
    }
    attention_.emplace(engine.prepare(workload_.spec, limits, {.num_workers = num_workers}));
    plan_ = attention_->new_plan();
  }

  void plan_once() {
    attention_->plan(plan_, batches_[static_cast<std::size_t>(next_)].batch(), args_);
    next_ = (next_ + 1) % kBatches;
  }

  const PlanCase& what() const { return what_; }
  PlanView view() const { return plan_.view(); }

 private:
  PlanCase what_;
  bench::Workload workload_;
  bench::WorkloadValues values_;
  PlanArgs args_ = values_.plan_args();
  std::vector<bench::BatchArrays> batches_;
  std::optional<Attention> attention_;
  Plan plan_;
  int next_ = 0;
};

struct PlanOptions {
  EngineChoice engine;
  std::string json;
  std::int64_t rounds = 15, num_workers = 264;
};

struct Samples {
  std::vector<double> us;
  std::int64_t allocations = 0;
};

std::vector<Samples> sample(std::vector<std::unique_ptr<PlanSubject>>& subjects, int rounds) {
  std::vector<Samples> samples(subjects.size());
  Progress progress("bench plan", static_cast<std::int64_t>(rounds) * static_cast<std::int64_t>(subjects.size()));
  for (int round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < subjects.size(); ++i) {
      progress.update(static_cast<std::int64_t>(round) * static_cast<std::int64_t>(subjects.size()) + static_cast<std::int64_t>(i));
      PlanSubject& subject = *subjects[i];
      subject.plan_once();  // brings its memory into the caches
      double burst[kBurst];
      const bench::AllocationCount allocations;
      for (double& time : burst) {
        time = bench::microseconds_of([&] { subject.plan_once(); });
      }
      samples[i].allocations += allocations.count();
      samples[i].us.insert(samples[i].us.end(), std::begin(burst), std::end(burst));
    }
  }
  return samples;
}

int run_plan(const PlanOptions& options) {
  Results results("bench plan", options.json);
  const Engine engine(options.engine.options());
  std::vector<std::unique_ptr<PlanSubject>> subjects;
  for (const PlanCase& what : kCases) {
    subjects.push_back(std::make_unique<PlanSubject>(engine, what, static_cast<std::int32_t>(options.num_workers)));
  }
  const std::vector<Samples> samples = sample(subjects, static_cast<int>(options.rounds));
  const double base = bench::median(samples[0].us);
  results.print("{}{} workers, 8 kv heads, pages of {}; allocations in all {} calls{}\n", machine_line(engine.describe()),
                options.num_workers, kPageSize, options.rounds * kBurst,
                bench::AllocationCount::sees_malloc() ? "" : " (operator new alone)");
  results.print("{:<46}{:<8}{:>9}{:>22}{:>8}{:>8}{:>7}\n", "workload", "form", "median", "p10 .. p90", "merges", "ratio", "alloc");
  std::vector<Point> points;
  for (std::size_t i = 0; i < subjects.size(); ++i) {
    const PlanCase& what = subjects[i]->what();
    const PlanView view = subjects[i]->view();
    Point point{.workload = what.name(), .us = bench::quantiles(samples[i].us), .against = kCases[0].name()};
    point.ratio = point.us.median / base;
    point.more = {{"requests", what.requests},
                  {"pages", what.pages},
                  {"kv_heads", 8},
                  {"workers", view.num_workers},
                  {"form", form_of(view)},
                  {"work_items", view.work.size()},
                  {"merges", view.num_merges},
                  {"allocations", samples[i].allocations}};
    results.print("{:<46}{:<8}{:>9}{:>22}{:>8}{:>8.2f}{:>7}\n", point.workload, point.more["form"].get<std::string>(),
                  duration_text(point.us.median), duration_text(point.us.p10) + " .. " + duration_text(point.us.p90), view.num_merges,
                  point.ratio, samples[i].allocations);
    points.push_back(std::move(point));
  }
  results.write(json_of(points, 1));
  return 0;
}

}  // namespace

void add_bench_plan(CLI::App& bench, Action& action) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = bench.add_subcommand("plan", "Planning a step: microseconds and allocations, over requests and pages");
  options->engine.add_to(*command);
  add_integer(*command, "--rounds", options->rounds, 1, 100000, "Rounds in which the points take turns, 20 calls each");
  add_integer(*command, "--workers", options->num_workers, 1, 65536, "Workers to plan for");
  add_json_option(*command, options->json);
  command->footer("Ratio: median against the first point's. Planning runs on one thread.");
  command->callback([options, &action] { action = [options] { return run_plan(*options); }; });
}

}  // namespace fovea::cli
