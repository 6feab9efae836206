// An attention problem made of the fuzzer's bytes, sound or not. Every tensor lies in an allocation of exactly its own extent, so that the
// address sanitizer sees any read or write outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fovea/fovea.h"
#include "tests/fuzz/bytes.h"

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
  std::vector<std::unique_ptr<std::byte[]>> memory;
  std::vector<KvTables> tables;
  std::vector<KvCache> caches;
  std::vector<std::vector<Value>> mask_values;
  std::vector<Value> params;

  void* take(std::int64_t num_bytes);
  TensorView integers(const std::vector<std::int32_t>& values);
  std::string text() const;
};

Problem make_problem(Bytes& bytes);

/// Bytes every output tensor is filled with before a run.
inline constexpr int kUntouched = 0x2a;

struct Outputs {
  TensorView o, lse;
};
Outputs new_outputs(Problem& problem);

/// Element i of a dense f32, f16 or bf16 tensor.
double number_at(const TensorView& tensor, std::int64_t i);

}  // namespace fovea::fuzz
