#include "bench/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "backends/cuda/probe/load_only.h"
#include "backends/cuda/probe/probe.h"
#include "bench/batch_arrays.h"
#include "bench/layer.h"
#include "fovea/error.h"

namespace fovea::bench {
namespace {

using cuda::probe::kLoadStageBytes;
using cuda::probe::kLoadThreads;

constexpr int kReadThreads = 512, kReadCtas = 4;          // 128 KiB on its way per multiprocessor and 16 bytes x 8 a thread
constexpr int kMultiplyThreads = 256, kMultiplyCtas = 4;  // 8 warps to a scheduler

int stages_of(const LoadConfig& config) { return std::max(1, (config.kib << 10) / config.ctas / kLoadStageBytes); }

}  // namespace

std::string gpu_kernels_source() {
  std::string source = R"(#include "backends/cuda/probe/load_only.cuh"
#include "backends/cuda/probe/peaks.cuh"
namespace probe = fovea::cuda::probe;
extern "C" __global__ void __launch_bounds__(512) read_in_order(const uint4* from, int64_t num_pieces, uint32_t* never) {
  probe::read_in_order(from, num_pieces, never);
}
extern "C" __global__ void __launch_bounds__(256) multiply_bf16(int32_t steps, uint32_t seed, float* never) {
  probe::multiply_bf16(steps, seed, never);
}
extern "C" __global__ void __launch_bounds__(512) fill_random(uint64_t* words, int64_t num_words, uint64_t seed, uint64_t keep, uint64_t set) {
  probe::fill_random(words, num_words, seed, keep, set);
}
)";
  std::set<int> depths;
  for (const LoadConfig& config : load_configs()) {
    depths.insert(stages_of(config));
  }
  for (const int stages : depths) {
    source += fmt::format(
        "extern \"C\" __global__ void __launch_bounds__({1}) load_only_{0}(const __grid_constant__ probe::LoadParams p) {{\n"
        "  probe::load_only<{0}>(p);\n"
        "}}\n",
        stages, kLoadThreads);
  }
  return source;
}

std::string LoadConfig::name() const { return fmt::format("load_only_{}x{}k", ctas, kib / ctas); }

std::vector<LoadConfig> load_configs() {
  std::vector<LoadConfig> configs;
  for (const int ctas : {1, 2, 3, 4}) {
    for (const int kib : {64, 96, 128, 192}) {
      configs.push_back({.ctas = ctas, .kib = kib});
    }
  }
  return configs;
}

struct Gpu::Impl {
  explicit Impl(const Engine& engine) : probe(engine.device().id), kernels(probe, "bench", gpu_kernels_source()), never(engine, 4) {}
  cuda::Probe probe;
  cuda::ProbeKernels kernels;
  DeviceBuffer never;
};

Gpu::Gpu(const Engine& engine) : engine_(engine), impl_(std::make_unique<Impl>(engine)) {}
Gpu::~Gpu() = default;

Stream Gpu::stream() const { return impl_->probe.stream(); }
std::int64_t Gpu::l2_bytes() const { return impl_->probe.l2_bytes(); }
std::int64_t Gpu::free_bytes() const { return impl_->probe.free_bytes(); }

void Gpu::fill_random(const DeviceBuffer& memory, DType dtype, std::uint64_t seed) const {
  const ElementBits bits = element_bits_of(dtype);
  void* words = memory.data();
  auto num_words = static_cast<std::int64_t>(memory.bytes() / 8);
  std::uint64_t keep = bits.keep, set = bits.set;
  void* parameters[] = {&words, &num_words, &seed, &keep, &set};
  impl_->kernels.launch("fill_random", {.ctas = 8 * impl_->probe.num_multiprocessors(), .threads = 256}, parameters);
}

void Gpu::load_only(const LoadConfig& config, const LoadList& list, const void* k, const void* v) const {
  cuda::probe::LoadParams params{.entries = static_cast<const cuda::probe::LoadEntry*>(list.entries_->data()),
                                 .k = static_cast<const char*>(k),
                                 .v = static_cast<const char*>(v),
                                 .num_entries = list.num_entries_,
                                 .k_token_bytes = list.k_token_bytes_,
                                 .v_token_bytes = list.v_token_bytes_};
  void* parameters[] = {&params};
  const int stages = stages_of(config);
  impl_->kernels.launch(
      fmt::format("load_only_{}", stages).c_str(),
      {.ctas = config.ctas * impl_->probe.num_multiprocessors(), .threads = kLoadThreads, .shared_bytes = stages * kLoadStageBytes},
      parameters);
}

void Gpu::read_in_order(const void* memory, std::int64_t bytes) const {
  std::int64_t num_pieces = bytes / 16;
  void* never = impl_->never.data();
  void* parameters[] = {&memory, &num_pieces, &never};
  impl_->kernels.launch("read_in_order", {.ctas = kReadCtas * impl_->probe.num_multiprocessors(), .threads = kReadThreads}, parameters);
}

double Gpu::multiply(std::int64_t steps) const {
  constexpr double kFlopsOfStep = 8 * 2.0 * 16 * 8 * 16;  // of a warp: kMultiplyChains products
  auto count = static_cast<std::int32_t>(steps);
  std::uint32_t seed = 1;
  void* never = impl_->never.data();
  void* parameters[] = {&count, &seed, &never};
  const int ctas = kMultiplyCtas * impl_->probe.num_multiprocessors();
  impl_->kernels.launch("multiply_bf16", {.ctas = ctas, .threads = kMultiplyThreads}, parameters);
  return kFlopsOfStep * static_cast<double>(count) * ctas * (kMultiplyThreads / 32);
}

struct Gpu::Chain::Impl {
  Impl(const cuda::Probe& p, int calls, const std::function<void(int)>& call)
      : probe(p),
        num_calls(calls),
        graph(p,
              [&] {
                for (int i = 0; i < calls; ++i) {
                  call(i);
                }
              }),
        begin(p),
        end(p) {}
  const cuda::Probe& probe;
  int num_calls;
  cuda::ProbeGraph graph;
  cuda::ProbeMark begin, end;
};

Gpu::Chain::Chain(const Gpu& gpu, int num_calls, const std::function<void(int)>& call)
    : impl_(std::make_unique<Impl>(gpu.impl_->probe, num_calls, call)) {}
Gpu::Chain::~Chain() = default;
Gpu::Chain::Chain(Chain&&) noexcept = default;

double Gpu::Chain::microseconds() const {
  impl_->begin.set();
  impl_->graph.launch();
  impl_->end.set();
  return cuda::ProbeMark::microseconds(impl_->begin, impl_->end) / impl_->num_calls;
}

bool LoadList::serves(const AttentionSpec& spec) {
  const std::int32_t vo = spec.head_dim_vo > 0 ? spec.head_dim_vo : spec.head_dim_qk;
  const std::int64_t k_bytes = bytes_of(spec.k_dtype, std::int64_t{spec.num_kv_heads} * spec.head_dim_qk);
  const std::int64_t v_bytes = bytes_of(spec.v_dtype, std::int64_t{spec.num_kv_heads} * vo);
  return k_bytes % cuda::probe::kLoadStepBytes == 0 && v_bytes % cuda::probe::kLoadStepBytes == 0;
}

LoadList::LoadList(const Gpu& gpu, const Workload& workload, const BatchArrays& arrays) {
  const AttentionSpec& spec = workload.spec;
  constexpr std::int32_t kEntryBytes = 8 << 10;  // of K: enough entries that all warps have equal shares
  const std::int32_t vo = spec.head_dim_vo > 0 ? spec.head_dim_vo : spec.head_dim_qk;
  k_token_bytes_ = static_cast<std::int32_t>(bytes_of(spec.k_dtype, std::int64_t{spec.num_kv_heads} * spec.head_dim_qk));
  v_token_bytes_ = static_cast<std::int32_t>(bytes_of(spec.v_dtype, std::int64_t{spec.num_kv_heads} * vo));
  std::vector<cuda::probe::LoadEntry> entries;
  const std::int64_t window = spec.formats.size() == 1 ? window_of(workload) : 0;
  for (const BatchArrays::Piece& piece : arrays.pieces(std::max(1, kEntryBytes / k_token_bytes_), window)) {
    num_tokens_ += piece.num_tokens;
    entries.push_back({.slot = piece.slot, .num_tokens = piece.num_tokens});
  }
  num_entries_ = static_cast<std::int32_t>(entries.size());
  const std::size_t bytes = entries.size() * sizeof(entries[0]);
  entries_.emplace(gpu.engine(), std::max<std::size_t>(bytes, 8));
  entries_->write(entries.data(), bytes);
}

}  // namespace fovea::bench
