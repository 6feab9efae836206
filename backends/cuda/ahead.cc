#include "backends/cuda/ahead.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "backends/builtin_variants.h"
#include "backends/cuda/backend.h"
#include "backends/cuda/module.h"
#include "backends/cuda/planner.h"
#include "backends/cuda/text_variants.h"
#include "backends/user_variants.h"
#include "src/jit/compile_log.h"
#include "src/problem/problem.h"
#include "src/support/check.h"
#include "src/support/log.h"

namespace fovea::cuda {
namespace {

struct KnownArchitecture {
  std::string_view name;
  GpuLimits limits;  // of the largest GPU; how many multiprocessors there are changes no code
};

// HW: shared memory of a CTA from the compute capabilities table of CUDA's programming guide.
constexpr KnownArchitecture kArchitectures[] = {
    {"sm_80", {.num_multiprocessors = 108, .max_shared_bytes = 166912}},
    {"sm_86", {.num_multiprocessors = 84, .max_shared_bytes = 101376}},
    {"sm_87", {.num_multiprocessors = 16, .max_shared_bytes = 166912}},
    {"sm_89", {.num_multiprocessors = 142, .max_shared_bytes = 101376}},
    {"sm_90a", {.num_multiprocessors = 132, .max_shared_bytes = 232448}},
    {"sm_100", {.num_multiprocessors = 148, .max_shared_bytes = 232448}},
    {"sm_103", {.num_multiprocessors = 160, .max_shared_bytes = 232448}},
    {"sm_120", {.num_multiprocessors = 188, .max_shared_bytes = 101376}},
};

}  // namespace

GpuLimits limits_of_architecture(std::string_view architecture) {
  std::string known;
  for (const KnownArchitecture& candidate : kArchitectures) {
    if (candidate.name == architecture) {
      GpuLimits limits = candidate.limits;
      limits.architecture = candidate.name;
      return limits;
    }
    known += fmt::format("{}{}", known.empty() ? "" : ", ", candidate.name);
  }
  throw InvalidArgument(fmt::format("compile: architecture '{}' is not known; known: {}", architecture, known));
}

const Candidate& cheapest_of(const Problem& problem, std::span<const Candidate> candidates) {
  std::string refusals;
  const Candidate* best = nullptr;
  for (const Candidate& candidate : candidates) {
    if (!candidate.refusal.empty()) {
      refusals += fmt::format("\n    {:<18} {}", candidate.kernel, candidate.refusal);
    } else if (best == nullptr || candidate.cost < best->cost) {
      best = &candidate;
    }
  }
  if (best == nullptr) {
    throw Unsupported(fmt::format("compile: no kernel accepts this problem ({}):{}", problem.spec.to_string(), refusals));
  }
  return *best;
}

Choice choice_for(const Problem& problem, const VariantShape& variant, const GpuLimits& gpu) {
  std::vector<Candidate> candidates;
  for (const AttentionKernel& kernel : attention_kernels()) {
    candidates.push_back(kernel.candidate(problem, variant, gpu));
  }
  return cheapest_of(problem, candidates).choice;
}

namespace {

/// Bytes spilled by the kernels of a choice, merges left out: they have no tiles.
int spilled_bytes(const Compiler& compiler, const Problem& problem, const GpuLimits& gpu, const Choice& choice) {
  const std::vector<CompileRequest> requests = attention_programs(problem, choice, gpu);
  const std::vector<jit::Artefact> cubins =
      compiler.compile(requests, fmt::format("{} for variant {}", choice.kernel, problem.spec.variant.name));
  int bytes = 0;
  for (std::size_t i = 0; i < choice.configs.size(); ++i) {
    bytes += jit::read_compile_log(cubins[i].log).spilled_bytes;
  }
  return bytes;
}

}  // namespace

void fit_cheapest(const Compiler& compiler, const Problem& problem, const GpuLimits& gpu, std::vector<Candidate>& candidates) {
  Candidate* best = nullptr;
  for (Candidate& candidate : candidates) {
    if (candidate.refusal.empty() && (best == nullptr || candidate.cost < best->cost)) {
      best = &candidate;
    }
  }
  if (best == nullptr) {
    return;
  }
  const std::span<const AttentionKernel> kernels = attention_kernels();
  const auto kernel = std::find_if(kernels.begin(), kernels.end(), [&](const AttentionKernel& k) { return k.name == best->kernel; });
  const std::int32_t wanted = best->choice.configs.back().tile_kv;
  const int spilled = fit_tiles(best->choice, kernel->smallest_tile_kv,
                                [&](const Choice& choice) { return spilled_bytes(compiler, problem, gpu, choice); });
  const std::int32_t taken = best->choice.configs.back().tile_kv;
  if (taken != wanted) {
    log_once(fmt::format("variant '{}' spills registers in {} with tiles of {} columns; it takes {}", problem.spec.variant.name,
                         best->kernel, wanted, taken));
  }
  if (spilled > 0) {
    log_once(fmt::format("variant '{}' spills {} bytes of registers in {} whatever its tiles: it is slower than it could be",
                         problem.spec.variant.name, spilled, best->kernel));
  }
}

int fit_tiles(Choice& choice, std::int32_t smallest_tile_kv, const std::function<int(const Choice&)>& spilled_bytes) {
  int least = spilled_bytes(choice);
  Choice smaller = choice;
  const auto halve = [&] {
    bool changed = false;
    for (KernelConfig& config : smaller.configs) {
      const std::int32_t half = std::max(config.tile_kv / 2, smallest_tile_kv);
      changed = changed || half < config.tile_kv;
      config.tile_kv = std::min(config.tile_kv, half);
    }
    return changed;
  };
  while (least > 0 && smallest_tile_kv > 0 && halve()) {
    const int spilled = spilled_bytes(smaller);
    if (spilled < least) {
      choice.configs = smaller.configs;
      least = spilled;
    }
  }
  return least;
}

std::vector<Problem> problems_of(const AttentionSpec& spec) {
  constexpr std::int32_t kManyTokens = 8192;
  std::vector<Problem> problems;
  for (const Policy policy : {Policy::throughput, Policy::batch_invariant}) {
    for (const std::int32_t tokens : {1, kManyTokens}) {
      problems.push_back(
          check_problem(spec, {.max_requests = 256, .max_query_tokens = std::max(256, tokens), .max_query_tokens_per_request = tokens},
                        {.policy = policy}));
    }
  }
  return problems;
}

namespace {

CompiledKernel kernel_of(const CompileRequest& request, const jit::Artefact& artefact) {
  const jit::CompileReport report = jit::read_compile_log(artefact.log);
  return {.label = request.label,
          .origin = artefact.shipped  ? CompiledKernel::Origin::shipped
                    : artefact.cached ? CompiledKernel::Origin::cached
                                      : CompiledKernel::Origin::compiled,
          .compiler = artefact.shipped ? "" : maker_of(artefact),
          .cpu_seconds = artefact.cpu_seconds,
          .registers = report.registers,
          .spilled_bytes = report.spilled_bytes,
          .bytes = static_cast<std::int64_t>(artefact.bytes.size()),
          .complaints = report.complaints(),
          .path = artefact.path};
}

/// The variant as the host sees it: built in, or read from the cubin that a GPU's host would ask for too.
struct AheadVariant {
  AheadVariant(const Variant& variant, const Compiler& compiler) : texts(nullptr, compiler) {
    shape = is_compiled_in(variant) ? &builtin_variant(variant.name) : &texts.get(variant);
  }
  TextVariants texts;
  const VariantInfo* shape;
};

/// What prepare() does for every problem that `spec` can become, in one list.
std::vector<CompileRequest> requests_of(const AttentionSpec& spec, const Compiler& compiler, bool fits) {
  const GpuLimits gpu = limits_of_architecture(compiler.architecture());
  const std::vector<Problem> problems = problems_of(spec);
  const AheadVariant variant(problems.front().spec.variant, compiler);
  std::vector<CompileRequest> requests;
  for (const Problem& problem : problems) {
    std::vector<Candidate> candidates;
    for (const AttentionKernel& kernel : attention_kernels()) {
      candidates.push_back(kernel.candidate(problem, *variant.shape, gpu));
    }
    if (fits && !problem.spec.variant.sources.empty()) {
      fit_cheapest(compiler, problem, gpu, candidates);
    }
    for (CompileRequest& request : attention_programs(problem, cheapest_of(problem, candidates).choice, gpu)) {
      requests.push_back(std::move(request));
    }
  }
  return requests;
}

}  // namespace

std::vector<CompiledKernel> compile_for_gpu_of(const Compiler& compiler, const AttentionSpec& spec, bool anew) {
  std::vector<CompileRequest> requests = requests_of(spec, compiler, !anew);
  std::vector<CompiledKernel> kernels;
  if (anew) {
    std::erase_if(requests, [](const CompileRequest& request) { return request.label.starts_with("merge-"); });
    drop_repeated(requests, compiler.architecture());
    for (const CompileRequest& request : requests) {
      kernels.push_back(kernel_of(request, compiler.compile_anew(request)));
    }
    return kernels;
  }
  requests.push_back(cache_ops_program());
  requests.push_back(planner_program());
  drop_repeated(requests, compiler.architecture());
  const std::vector<jit::Artefact> cubins = compiler.compile(requests, fmt::format("variant '{}'", spec.variant.name));
  for (std::size_t i = 0; i < requests.size(); ++i) {
    kernels.push_back(kernel_of(requests[i], cubins[i]));
  }
  // A text's kernels were compiled when tiles were fitted to it, and found again just now.
  for (const CompileRecord& record : compiler.records()) {
    for (CompiledKernel& kernel : kernels) {
      if (!record.cached && record.path == kernel.path && !kernel.path.empty()) {
        kernel.origin = CompiledKernel::Origin::compiled;
        kernel.cpu_seconds = record.cpu_seconds;
      }
    }
  }
  return kernels;
}

void drop_repeated(std::vector<CompileRequest>& requests, std::string_view architecture) {
  std::vector<jit::Digest> seen;
  std::erase_if(requests, [&](const CompileRequest& request) {
    const jit::Digest digest = digest_of(request, architecture);
    if (std::find(seen.begin(), seen.end(), digest) != seen.end()) {
      return true;
    }
    seen.push_back(digest);
    return false;
  });
}

}  // namespace fovea::cuda

namespace fovea {

std::vector<CompiledKernel> compile_for_gpu(std::string_view architecture, const AttentionSpec& spec, bool anew) {
  cuda::limits_of_architecture(architecture);  // refuses what is unknown before NVRTC is looked for
  return cuda::compile_for_gpu_of(cuda::Compiler(std::string(architecture), 0), spec, anew);
}

}  // namespace fovea
