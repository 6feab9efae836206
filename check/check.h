// fovea_check: random attention problems and whether a backend solves them. Used by `fovea check` and by the conformance tests.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fovea/engine.h"

namespace fovea::check {

/// Which cases are drawn. What is not set is random.
struct CaseFilter {
  std::string variant;         // "causal+soft_cap"
  std::string format;          // one of format_names()
  std::optional<DType> dtype;  // of q, K, V and o (8-bit types: of K and V)
  std::optional<std::int32_t> page_size;
  std::optional<std::int32_t> pieces;  // that a fixed split makes of the longest request, if that is at least 64 tokens each

  /// A variant of the caller's own, with these values in every case, instead of a drawn one. The dense computation doesn't know it: the
  /// backend is compared with the reference alone, which asks the mask for every pair.
  struct Own {
    Variant variant;
    std::vector<Value> mask, params;
  };
  std::optional<Own> own;
};

const std::vector<std::string>& variant_names();  // what the generator draws variants from
const std::vector<std::string>& format_names();   // "csr", "table_2d", "ragged", "block_sparse", "per_head", "shared_prefix", ...

struct CaseResult {
  std::int64_t index = 0;
  bool failed = false;
  double worst = 0;  // largest error over its bound; at most 1 when the case passed; infinity where an inf, a NaN or an exception is wrong
  std::string text;  // the case in one line; of a failed one also where and by how much
};

struct Totals {
  std::int64_t cases = 0, failed = 0;
  double worst = 0;
  std::string worst_text;            // the case that reached `worst`
  std::vector<CaseResult> failures;  // the first 20
};

/// Called after every case; returning false stops the run.
using Progress = std::function<bool(const Totals& so_far)>;

/// A backend under test, with the reference beside it. Case (seed, index) is the same on every machine. Used by one thread at a time.
class Checker {
 public:
  explicit Checker(const EngineOptions& options);  // throws InvalidArgument for an unknown backend or instruction set
  ~Checker();

  /// Runs one case and compares with the reference backend, and the reference with a dense computation of the same case. Never throws.
  CaseResult run_case(std::uint64_t seed, std::int64_t index, const CaseFilter& filter = {}) const;

  Totals run_cases(std::int64_t count, std::uint64_t seed, const Progress& progress = {}, const CaseFilter& filter = {}) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fovea::check
