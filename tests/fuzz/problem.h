// An attention problem made of the fuzzer's bytes, sound or not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fovea/fovea.h"
#include "tests/fuzz/draw.h"

namespace fovea::fuzz {

struct Problem {
  AttentionSpec spec;
  Limits limits;
  PrepareOptions options;
  Batch batch;
  std::vector<MaskValues> masks;
  RunArgs run;  // o and lse are made by new_outputs()
  bool with_lse = true;
  std::vector<std::int64_t> num_pages;  // per format, for check_pages
  std::int64_t num_o_tokens = 0;

  // What the views point into.
  Memory memory;
  std::vector<KvTables> tables;
  std::vector<KvCache> caches;
  std::vector<std::vector<Value>> mask_values;
  std::vector<Value> params;

  std::string text() const;
};

Problem make_problem(Bytes& bytes);

/// Bytes every output tensor is filled with before a run.
inline constexpr int kUntouched = 0x2a;

struct Outputs {
  TensorView o, lse;
};
Outputs new_outputs(Problem& problem);

}  // namespace fovea::fuzz
