// What an attention kernel of this backend is to the rest of it: an answer to problems, and generated source for each configuration.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "src/backend.h"

namespace fovea::cuda {

/// What kernels choose by.
struct GpuLimits {
  std::int32_t num_multiprocessors = 0;
  std::int32_t max_shared_bytes = 0;  // of a CTA; a multiprocessor has 1 KiB more, and takes 1 KiB of it for every CTA
  std::string_view architecture;      // "sm_90a"
};

/// One configuration of a kernel as it is compiled and launched.
struct KernelCode {
  std::string include;                 // "backends/cuda/kernels/attention_sm80/kernel.cuh"
  std::string call;                    // "fovea::cuda::attention_sm80::attention<kConfig, Rule>", with kConfig defined before
  std::string definition;              // of kConfig
  std::int32_t threads = 0, ctas = 1;  // of a multiprocessor: registers are for so many, a list's grid is as many
  std::int32_t shared_bytes = 0;
  std::string extra;  // type of a parameter behind the others, or empty; the host makes it for every run:
  void (*make_extra)(const KernelParams& params, void* extra) = nullptr;  // at most kMaxExtraBytes
};

inline constexpr std::size_t kMaxExtraBytes = 320 * kMaxFormats;

struct AttentionKernel {
  std::string_view name;
  Candidate (*candidate)(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu);
  KernelCode (*code)(const Problem& problem, const GpuLimits& gpu, const KernelConfig& config);
  /// A caller's variant whose code spills registers falls to half of tile_kv, again and again down to this; 0: tiles stay as chosen.
  std::int32_t smallest_tile_kv = 0;
};

/// The explicit list.
std::span<const AttentionKernel> attention_kernels();

/// Lines after `using Rule = ...;`: one kernel named `attention`.
std::string source_of(const KernelCode& code);

}  // namespace fovea::cuda
