// What a problem needs compiled, said without a GPU: for cubins shipped in the library, and for caches filled on another machine.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/compiler.h"
#include "backends/cuda/kernels.h"
#include "fovea/compile.h"

namespace fovea::cuda {

/// What kernels are chosen by on GPUs of "sm_90a". Throws InvalidArgument with the architectures that are known.
GpuLimits limits_of_architecture(std::string_view architecture);

/// The accepted one of lowest cost. Throws Unsupported with every kernel's refusal.
const Candidate& cheapest_of(const Problem& problem, std::span<const Candidate> candidates);

/// The choice that a GPU of these limits makes.
Choice choice_for(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu);

/// A caller's variant: the cheapest accepted candidate compiled, with smaller tiles while its kernels spill registers. Says so on the log.
void fit_cheapest(const Compiler& compiler, const Problem& problem, const GpuLimits& gpu, std::vector<Candidate>& candidates);

/// Halves the choice's tiles of columns while registers spill, down to the smallest (0: never); keeps what spills least and returns its
/// bytes.
int fit_tiles(Choice& choice, std::int32_t smallest_tile_kv, const std::function<int(const Choice&)>& spilled_bytes);

/// `spec` under every policy, and for batches of few and of many rows: all that may be asked of it.
std::vector<Problem> problems_of(const AttentionSpec& spec);

/// What prepare() would compile on a GPU of the compiler's architecture, whatever the limits.
std::vector<CompiledKernel> compile_for_gpu_of(const Compiler& compiler, const AttentionSpec& spec, bool anew);

/// Leaves out what was there before.
void drop_repeated(std::vector<CompileRequest>& requests, std::string_view architecture);

}  // namespace fovea::cuda
