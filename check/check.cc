#include "check/check.h"

#include <fmt/format.h>

#include <limits>

#include "check/case.h"
#include "check/compare.h"
#include "check/on_device.h"
#include "fovea/error.h"

namespace fovea::check {
namespace {

constexpr std::size_t kMaxFailures = 20;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Prepares, plans twice and runs twice: the second time, buffers hold what the first left.
Verdict run_on(const Engine& engine, const Case& c, DType o_dtype, const PrepareOptions& options, Outputs& out) {
  AttentionSpec spec = c.spec;
  spec.o_dtype = o_dtype;
  const Attention attention = engine.prepare(spec, c.limits, options);
  Plan plan = attention.new_plan();
  const CaseOnDevice moved(engine, c);
  Outputs first = make_outputs(c, o_dtype);
  out = make_outputs(c, o_dtype);
  for (Outputs* outputs : {&first, &out}) {
    OutputsOnDevice results(engine, *outputs);
    RunArgs args = moved.run();
    args.o = results.o();
    args.lse = results.lse();
    attention.plan(plan, moved.batch(), {.masks = moved.masks()});
    attention.run(plan, args);
    results.fetch();
  }
  if (first.o_memory != out.o_memory || first.lse_memory != out.lse_memory) {
    return {.worst = kInfinity, .text = "the same plan run twice gave different bits"};
  }
  return {};
}

}  // namespace

struct Checker::Impl {
  explicit Impl(const EngineOptions& options)
      : tested(options), reference({.backend = "reference"}), is_reference(options.backend == "reference") {}
  Engine tested;
  Engine reference;
  bool is_reference;

  Verdict check(const Case& c) const {
    Outputs reference_out;
    Verdict verdict = run_on(reference, c, DType::f32, {}, reference_out);
    if (verdict.failed()) {
      verdict.text = "reference: " + verdict.text;
      return verdict;
    }
    if (c.own_variant) {
      const Dense of_reference = dense_of(c, reference_out);
      Outputs out;
      verdict = run_on(tested, c, c.spec.o_dtype, is_reference ? PrepareOptions{} : c.options, out);
      return verdict.failed() ? verdict : compare(c, of_reference, own_bounds(c, of_reference), out);
    }
    const Dense exact = exact_result(c);
    const Verdict of_reference = compare(c, exact, reference_bounds(c, exact), reference_out);
    if (of_reference.failed()) {
      return {.worst = of_reference.worst, .text = "reference against dense computation: " + of_reference.text};
    }
    Outputs tested_out;
    verdict = run_on(tested, c, c.spec.o_dtype, is_reference ? PrepareOptions{} : c.options, tested_out);
    return verdict.failed() ? verdict : compare(c, dense_of(c, reference_out), backend_bounds(c, exact), tested_out);
  }
};

Checker::Checker(const EngineOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Checker::~Checker() = default;

CaseResult Checker::run_case(std::uint64_t seed, std::int64_t index, const CaseFilter& filter) const {
  CaseResult result{.index = index, .failed = true, .worst = kInfinity, .text = fmt::format("seed {} case {}", seed, index)};
  try {
    const Case c = make_case(seed, index, filter);
    result.text = c.text();
    const Verdict verdict = impl_->check(c);
    result.failed = verdict.failed();
    result.worst = verdict.worst;
    result.text += result.failed ? "\n    " + verdict.text : "";
  } catch (const std::exception& error) {
    result.text += fmt::format("\n    refused: {}", error.what());
  }
  return result;
}

Totals Checker::run_cases(std::int64_t count, std::uint64_t seed, const Progress& progress, const CaseFilter& filter) const {
  Totals totals;
  for (std::int64_t index = 0; index < count; ++index) {
    CaseResult result = run_case(seed, index, filter);
    ++totals.cases;
    totals.failed += result.failed ? 1 : 0;
    if (result.worst >= totals.worst) {
      totals.worst = result.worst;
      totals.worst_text = result.text;
    }
    if (result.failed && totals.failures.size() < kMaxFailures) {
      totals.failures.push_back(std::move(result));
    }
    if (progress && !progress(totals)) {
      break;
    }
  }
  return totals;
}

}  // namespace fovea::check
