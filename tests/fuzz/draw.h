// Small pieces that problems are made of, and memory that ends exactly where its tensor ends, so that the address sanitizer sees any read
// or write outside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "fovea/tensor.h"
#include "tests/fuzz/bytes.h"

namespace fovea::fuzz {

class Memory {
 public:
  void* take(std::int64_t num_bytes);
  TensorView integers(const std::vector<std::int32_t>& values);

 private:
  std::vector<std::unique_ptr<std::byte[]>> pieces_;
};

/// Numbers of magnitude 1/4 to 1.75 from a generator seeded by one byte: the fuzzer's bytes are for structure.
void fill(const TensorView& tensor, std::int64_t count, std::uint32_t seed);

/// Element i of a dense tensor of a floating-point type.
double number_at(const TensorView& tensor, std::int64_t i);

DType float_type(Bytes& bytes, bool with_8_bit);

/// 0 and then steps of `low` .. `high`; rarely anything.
std::vector<std::int32_t> indptr(Bytes& bytes, int count, int low, int high);

/// Entries of a tensor whose last indptr is `end`: as many as it says, if that is not absurd, rarely one too few.
std::int32_t entries_for(Bytes& bytes, std::int32_t end);

std::vector<std::int32_t> indices(Bytes& bytes, std::int32_t count, int below);

}  // namespace fovea::fuzz
