// Compiling for GPUs that are elsewhere, and the cache of what was compiled at run time (docs/compiling.md).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/problem.h"

namespace fovea {

/// A kernel of a spec, compiled for one architecture.
struct CompiledKernel {
  enum class Origin : std::uint8_t { shipped, cached, compiled };  // in the library; found; made now
  std::string label;                                               // "attention_sm80-64x64-list-causal"
  Origin origin = Origin::compiled;
  std::string compiler;    // "NVRTC 13.5"; empty where shipped
  double cpu_seconds = 0;  // of the compiler; 0 unless compiled
  std::int32_t registers = 0, spilled_bytes = 0;
  std::int64_t bytes = 0;
  std::string complaints;  // what the compiler says slows the kernel down; empty: nothing
  std::string path;        // where it is kept; empty: nowhere
};

/// Everything that prepare() may want for `spec` on a GPU of `architecture` ("sm_90a"), whatever its limits and policy (fixed splits whose
/// length is a multiple of no kv tile of ours left out): compiled by this machine's NVRTC into the cache, which a machine without a
/// compiler can then use. No GPU or driver is needed. Seconds. Throws InvalidArgument, Unsupported (no NVRTC; no kernel takes the spec) or
/// CompileFailed.
std::vector<CompiledKernel> compile_ahead(std::string_view architecture, const AttentionSpec& spec);

/// The same, each compiled anew on this thread and kept nowhere, to measure it. Merges are left out.
std::vector<CompiledKernel> compile_anew(std::string_view architecture, const AttentionSpec& spec);

/// One entry of the cache.
struct CacheEntry {
  std::string name;                            // its folder
  std::int64_t bytes = 0;                      // of all its files
  std::chrono::system_clock::time_point used;  // last found or written, to a day
};

/// FOVEA_CACHE_DIR, else $XDG_CACHE_HOME/fovea, else ~/.cache/fovea; empty: nothing is kept.
std::string cache_folder();

/// Sorted by use, the latest first. Empty where there is no cache.
std::vector<CacheEntry> cache_entries();

/// Removes the entries longest unused until `bytes` are left; 0 empties it. Returns what was removed. Processes that have code of an entry
/// loaded keep it.
std::vector<CacheEntry> prune_cache(std::int64_t bytes);

}  // namespace fovea
