// The backends and instruction sets that this machine can test, and how much of the matrix to run.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <ostream>
#include <string>
#include <vector>

#include "fovea/engine.h"
#include "fovea/error.h"

namespace fovea::check {

struct Target {
  std::string name;  // "cpu_avx2"
  EngineOptions options;
};

inline void PrintTo(const Target& target, std::ostream* out) { *out << target.name; }

/// Every instruction set of the cpu backend that runs here.
inline std::vector<Target> cpu_targets() {
  std::vector<Target> targets;
  for (const char* isa : {"avx2", "avx512", "avx512_bf16"}) {
    const EngineOptions options{.backend = "cpu", .isa = isa};
    try {
      const Engine engine(options);
      targets.push_back({std::string("cpu_") + isa, options});
    } catch (const Error&) {
      continue;  // not on this machine, or not in this build
    }
  }
  return targets;
}

/// The first GPU, where there is one.
inline std::vector<Target> gpu_targets() {
  const EngineOptions options{.backend = "cuda"};
  try {
    const Engine engine(options);
    return {{"cuda", options}};
  } catch (const Error&) {
    return {};  // no driver, no GPU, or not in this build
  }
}

/// Whose memory is the host's.
inline std::vector<Target> all_targets() {
  std::vector<Target> targets = cpu_targets();
  targets.push_back({"reference", {.backend = "reference"}});
  return targets;
}

/// All of them: for tests that bring tensors to the engine's device.
inline std::vector<Target> device_targets() {
  std::vector<Target> targets = all_targets();
  for (const Target& target : gpu_targets()) {
    targets.push_back(target);
  }
  return targets;
}

/// FOVEA_TEST_MATRIX: small for sanitizer builds, medium by default, full before a release.
enum class Matrix { small, medium, full };

inline Matrix matrix() {
  const char* name = std::getenv("FOVEA_TEST_MATRIX");
  const std::string text = name == nullptr ? "medium" : name;
  return text == "small" ? Matrix::small : text == "full" ? Matrix::full : Matrix::medium;
}

inline std::string name_of_target(const testing::TestParamInfo<Target>& param) { return param.param.name; }

}  // namespace fovea::check
