#include "check/check.h"

#include "fovea/error.h"

namespace fovea::check {

struct Checker::Impl {
  EngineOptions options;
};

Checker::Checker(const EngineOptions& options) : impl_(std::make_unique<Impl>(Impl{options})) {}
Checker::~Checker() = default;

const std::vector<std::string>& variant_names() {
  static const std::vector<std::string> names;
  return names;
}
const std::vector<std::string>& format_names() {
  static const std::vector<std::string> names;
  return names;
}

CaseResult Checker::run_case(std::uint64_t, std::int64_t index, const CaseFilter&) const {
  return {.index = index, .failed = true, .text = "check: cases are not generated yet"};
}

Totals Checker::run_cases(std::int64_t count, std::uint64_t seed, const Progress& progress, const CaseFilter& filter) const {
  Totals totals;
  for (std::int64_t index = 0; index < count; ++index) {
    const CaseResult result = run_case(seed, index, filter);
    ++totals.cases;
    totals.failed += result.failed;
    if (result.failed && totals.failures.size() < 20) {
      totals.failures.push_back(result);
    }
    if (result.worst >= totals.worst) {
      totals.worst = result.worst;
      totals.worst_text = result.text;
    }
    if (progress && !progress(totals)) {
      break;
    }
  }
  return totals;
}

}  // namespace fovea::check
