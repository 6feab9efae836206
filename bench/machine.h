// What this machine is, as far as timings and bug reports need to know.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fovea::bench {

struct Machine {
  std::string cpu;                    // model name
  std::string architecture;           // "x86_64"
  std::string system;                 // kernel and distribution
  std::vector<std::string> features;  // instruction sets that matter here: "avx2", "avx512f", ...
  int num_cores = 0;                  // that this process may run on
  std::int64_t memory_bytes = 0;      // of the machine, or what a control group allows
  std::int64_t available_bytes = 0;
  std::int64_t last_cache_bytes = 0;  // largest cache level of core 0; 0: unknown
};

/// Reads /proc and /sys; what is missing there stays empty or 0.
Machine this_machine();

}  // namespace fovea::bench
