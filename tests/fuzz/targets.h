// What the fuzzer does with an input, and what it does it on.
#pragma once

#include <string>

#include "fovea/engine.h"
#include "tests/fuzz/bytes.h"

namespace fovea::fuzz {

struct Engines {
  Engine cpu{{.backend = "cpu", .num_threads = 2}};
  Engine reference{{.backend = "reference"}};
};
const Engines& engines();

/// Prints and aborts: libFuzzer keeps the input.
[[noreturn]] void fail(const std::string& what);

void check_attention(Bytes& bytes);
void check_append(Bytes& bytes);

}  // namespace fovea::fuzz
