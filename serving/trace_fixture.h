// Test support: traces made up at random.
#pragma once

#include <random>

#include "serving/trace.h"

namespace fovea::serving {

/// Prompts that begin with a few shared prefixes, in bursts.
inline Trace random_trace(unsigned seed, int num_requests) {
  std::mt19937 random(seed);
  Trace trace{.name = "random", .format = "mooncake", .requests = {}, .skipped_lines = 0, .first_skipped = {}};
  std::int64_t now = 0, next_id = 1000;
  for (int i = 0; i < num_requests; ++i) {
    TraceRequest request{.arrival_us = now += static_cast<std::int64_t>(random() % 3 == 0 ? random() % 2'000'000 : 0), .prefix_ids = {}};
    request.input_tokens = 1 + static_cast<std::int64_t>(random() % 6000);
    request.output_tokens = 1 + static_cast<std::int64_t>(random() % 300);
    const std::int64_t family = static_cast<std::int64_t>(random() % 4), shared = static_cast<std::int64_t>(random() % 8);
    for (std::int64_t id = 0; id * kTokensPerPrefixId < request.input_tokens; ++id) {
      request.prefix_ids.push_back(id < shared ? family * 100 + id : next_id++);
    }
    trace.requests.push_back(request);
  }
  return trace;
}

}  // namespace fovea::serving
