// fovea check: random problems through a backend, compared with the reference in double precision.
#include "check/check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "bench/batch_arrays.h"
#include "cli/commands.h"
#include "cli/results.h"
#include "cli/terminal.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

struct CheckOptions {
  EngineChoice engine;
  std::string json, format, dtype;
  VariantChoice rule;
  std::int64_t cases = 200, seed = 1, only = -1, page_size = 0;
};

/// Not a drawn variant with drawn values, but the user's text, or values.
bool is_own(const VariantChoice& rule) { return !rule.files.empty() || !rule.mask.empty() || !rule.params.empty(); }

check::CaseFilter filter_of(const CheckOptions& options) {
  check::CaseFilter filter{.format = options.format};
  const auto known = [](const char* option, const char* what, const std::string& given, const std::vector<std::string>& names) {
    if (!given.empty() && std::find(names.begin(), names.end(), given) == names.end()) {
      throw InvalidArgument(fmt::format("{}: {} '{}' is not known; known: {}", option, what, given, bench::choices(given, names)));
    }
  };
  if (!is_own(options.rule)) {
    filter.variant = options.rule.variant;
    known("--variant", "variant", filter.variant, check::variant_names());
  }
  known("--format", "format", options.format, check::format_names());
  if (!options.dtype.empty()) {
    filter.dtype = bench::parse_dtype("--dtype", options.dtype);
  }
  if (options.page_size > 0) {
    filter.page_size = static_cast<std::int32_t>(options.page_size);
  }
  return filter;
}

/// The command that runs one case again.
std::string reproduce(const CheckOptions& options, std::int64_t index) {
  std::string command = fmt::format("fovea check --backend {} --seed {} --case {}", options.engine.backend, options.seed, index);
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) {
      command += fmt::format(" {} {}", option, value);
    }
  };
  add("--isa", options.engine.isa);
  add("--threads", options.engine.num_threads > 0 ? fmt::format("{}", options.engine.num_threads) : "");
  add("--variant", options.rule.variant);
  for (const auto& [option, values] :
       {std::pair{"--variant-file", &options.rule.files}, {"--mask", &options.rule.mask}, {"--param", &options.rule.params}}) {
    for (const std::string& value : *values) {
      add(option, value);
    }
  }
  add("--format", options.format);
  add("--dtype", options.dtype);
  add("--page-size", options.page_size > 0 ? fmt::format("{}", options.page_size) : "");
  return command;
}

check::Totals run_cases(const CheckOptions& options, const check::Checker& checker, const check::CaseFilter& filter) {
  const auto seed = static_cast<std::uint64_t>(options.seed);
  if (options.only >= 0) {
    const check::CaseResult result = checker.run_case(seed, options.only, filter);
    check::Totals totals{.cases = 1, .failed = result.failed ? 1 : 0, .worst = result.worst, .worst_text = result.text, .failures = {}};
    if (result.failed) {
      totals.failures.push_back(result);
    }
    return totals;
  }
  Progress progress("check", options.cases);
  const check::Totals totals = checker.run_cases(
      options.cases, seed,
      [&](const check::Totals& so_far) {
        if (!interrupted()) {
          progress.update(so_far.cases, so_far.failed > 0 ? fmt::format("{} failed", so_far.failed) : "");
        }
        return !interrupted();
      },
      filter);
  stop_if_interrupted();
  return totals;
}

int run_check(const CheckOptions& options) {
  check::CaseFilter filter = filter_of(options);
  bench::Workload own = bench::load_workload("decode_b64_kv4k");
  options.rule.apply(own);
  const bench::WorkloadValues values(own);  // what the filter's values point into
  if (is_own(options.rule)) {
    Engine(options.engine.options()).prepare(own.spec, bench::limits_of(own));  // a text that doesn't compile is one error, not one a case
    const Values mask = values.mask().values, params = values.params();
    filter.own =
        check::CaseFilter::Own{.variant = own.spec.variant, .mask = {mask.begin(), mask.end()}, .params = {params.begin(), params.end()}};
  }
  Results results("check", options.json);
  const check::Checker checker(options.engine.options());
  const check::Totals totals = run_cases(options, checker, filter);

  Json failures = Json::array();
  for (const check::CaseResult& failure : totals.failures) {
    results.print("FAILED case {}: {}\n  again: {}\n", failure.index, failure.text, reproduce(options, failure.index));
    failures.push_back(
        {{"case", failure.index}, {"worst", failure.worst}, {"text", failure.text}, {"reproduce", reproduce(options, failure.index)}});
  }
  if (totals.failed > static_cast<std::int64_t>(totals.failures.size())) {
    results.print("and {} more\n", totals.failed - static_cast<std::int64_t>(totals.failures.size()));
  }
  if (options.only >= 0 && totals.failed == 0) {
    results.print("case {}: {}\n", options.only, totals.worst_text);
  }
  results.print("{} on {}: {} of {} cases passed; largest error {:.2f} of its bound\n", totals.failed == 0 ? "ok" : "FAILED",
                options.engine.backend, grouped(totals.cases - totals.failed), grouped(totals.cases), totals.worst);
  results.write({{"backend", options.engine.backend},
                 {"seed", options.seed},
                 {"cases", totals.cases},
                 {"failed", totals.failed},
                 {"worst", totals.worst},
                 {"worst_case", totals.worst_text},
                 {"failures", failures}});
  return totals.failed == 0 ? 0 : 1;
}

}  // namespace

void add_check(CLI::App& app, Action& action) {
  auto options = std::make_shared<CheckOptions>();
  CLI::App* command = app.add_subcommand("check", "Run random problems on this machine and compare with the reference in double precision");
  options->engine.add_to(*command);
  add_integer(*command, "--cases", options->cases, 1, 1'000'000'000, "How many problems");
  add_integer(*command, "--seed", options->seed, 0, INT64_MAX, "Which problems: the same seed, the same problems on every machine");
  add_integer(*command, "--case", options->only, 0, INT64_MAX, "Run this one case alone and describe it")->default_str("");
  const std::string group = "Only some problems";
  options->rule.add_to(*command, "With this variant; with texts or values of your own, against the reference alone");
  command->add_option("--format", options->format, "With KV stored so: csr, table_2d, ragged, ...")->type_name("F")->group(group);
  command->add_option("--dtype", options->dtype, "With this element type")->type_name("T")->group(group);
  add_integer(*command, "--page-size", options->page_size, 1, 1 << 20, "With pages of so many tokens")->default_str("")->group(group);
  add_json_option(*command, options->json);
  command->footer(
      "Examples:\n"
      "  fovea check\n"
      "  fovea check --backend cpu --cases 5000 --seed 7 --isa avx2\n"
      "  fovea check --variant-file my_mask.h --variant causal+my_mask --mask width=40\n"
      "Ends with 1 when a case fails.");
  command->callback([options, &action] { action = [options] { return run_check(*options); }; });
}

}  // namespace fovea::cli
