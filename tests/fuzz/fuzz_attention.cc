// Attention: page ids that check_pages accepts must never lead outside the cache (the address sanitizer watches).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>

#include "tests/fuzz/problem.h"
#include "tests/fuzz/targets.h"

namespace fovea::fuzz {
namespace {

[[noreturn]] void fail_on(const Problem& problem, const std::string& what) { fail(what + "\n" + problem.text()); }

/// One backend's answer: outputs, or the code it refused with and where.
struct Answer {
  Outputs outputs;
  std::optional<ErrorCode> refusal;
  std::string text;
  const char* step = "prepare";
};

/// How far inputs come, printed at the end: a fuzzer that never gets past prepare() finds nothing.
struct Reach {
  long long inputs = 0, runs = 0;
  std::map<std::string, long long> refusals;  // by step

  ~Reach() {
    std::fprintf(stderr, "fovea_fuzz: %lld inputs, %lld ran", inputs, runs);
    for (const auto& [step, count] : refusals) {
      std::fprintf(stderr, ", %lld refused by %s", count, step.c_str());
    }
    std::fprintf(stderr, "\n");
  }
};

bool untouched(const TensorView& tensor) {
  const auto* bytes = static_cast<const unsigned char*>(tensor.data);
  for (std::int64_t i = 0; i < (tensor.defined() ? bytes_of(tensor.dtype, tensor.numel()) : 0); ++i) {
    if (bytes[i] != kUntouched) {
      return false;
    }
  }
  return true;
}

Answer answer_of(const Engine& engine, Problem& problem) {
  Answer answer;
  answer.outputs = new_outputs(problem);
  RunArgs args = problem.run;
  args.o = answer.outputs.o;
  args.lse = answer.outputs.lse;
  try {
    const Attention attention = engine.prepare(problem.spec, problem.limits, problem.options);
    Plan plan = attention.new_plan();
    answer.step = "plan";
    attention.plan(plan, problem.batch, {.masks = problem.masks});
    answer.step = "check_pages";
    attention.check_pages(plan, problem.num_pages, std::clamp(args.mask_group, 0, static_cast<int>(problem.masks.size()) - 1));
    answer.step = "run";
    attention.run(plan, args);
  } catch (const Error& error) {
    answer.refusal = error.code();
    answer.text = error.what();
    if (error.code() == ErrorCode::internal) {
      fail_on(problem, answer.text);
    }
    if (!untouched(answer.outputs.o) || !untouched(answer.outputs.lse)) {
      fail_on(problem, std::string("refused, but wrote: ") + error.what());
    }
  }
  return answer;
}

/// Far above rounding in the coarsest type (bf16: 2^-8 of a value, fp8 is input only), far below what a lost or doubled key does.
double tolerance(double expected) { return 0.02 * (1.0 + std::fabs(expected)); }

void compare(const Problem& problem, const char* name, const TensorView& given, const TensorView& expected) {
  for (std::int64_t i = 0; i < (given.defined() ? given.numel() : 0); ++i) {
    const double a = number_at(given, i);
    const double b = number_at(expected, i);
    const bool same = a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= tolerance(b);
    if (!same) {
      fail_on(problem,
              std::string(name) + "[" + std::to_string(i) + "] = " + std::to_string(a) + ", the reference has " + std::to_string(b));
    }
  }
}

}  // namespace

void check_attention(Bytes& bytes) {
  Problem problem = make_problem(bytes);
  const Answer given = answer_of(engines().cpu, problem);
  const Answer expected = answer_of(engines().reference, problem);
  static Reach reach;
  ++reach.inputs;
  ++(expected.refusal ? reach.refusals[expected.step] : reach.runs);
  // A kernel may refuse what the reference can do, and its tile decides which split lengths are sound and how many partial states they
  // need.
  const bool needs_differ =
      problem.options.policy != Policy::throughput && (std::string(given.step) == "prepare" || std::string(expected.step) == "prepare");
  const bool may_differ = given.refusal == ErrorCode::unsupported || expected.refusal == ErrorCode::unsupported || needs_differ;
  if (given.refusal != expected.refusal && !may_differ) {
    fail_on(problem, "cpu, " + std::string(given.step) + ": " + (given.refusal ? given.text : "accepts") + "\nreference, " + expected.step +
                         ": " + (expected.refusal ? expected.text : "accepts"));
  }
  if (!given.refusal && !expected.refusal) {
    compare(problem, "o", given.outputs.o, expected.outputs.o);
    compare(problem, "lse", given.outputs.lse, expected.outputs.lse);
  }
}

}  // namespace fovea::fuzz
