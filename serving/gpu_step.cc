#include "serving/gpu_step.h"

#include <array>
#include <deque>
#include <optional>
#include <utility>

#include "backends/cuda/probe/probe.h"
#include "fovea/device_buffer.h"

namespace fovea::serving {
namespace {

constexpr int kNumMarks = 3;
constexpr int kThreads = 256, kCtas = 8;  // CTAs of a multiprocessor

}  // namespace

const char* gpu_step_source() {
  return R"(#include "backends/cuda/probe/replay.cuh"
extern "C" __global__ void __launch_bounds__(256) fill_values(const uint64_t* token_hashes, uint64_t key, int32_t num_tokens, int32_t heads,
                                                              int32_t dim, uint2* out) {
  fovea::cuda::probe::fill_values(token_hashes, key, num_tokens, heads, dim, out);
}
extern "C" __global__ void __launch_bounds__(256) digest_rows(const uint64_t* rows, int32_t num_rows, int32_t row_words, uint64_t key,
                                                              uint64_t* sum) {
  fovea::cuda::probe::digest_rows(rows, num_rows, row_words, key, sum);
}
)";
}

struct GpuStep::Impl {
  Impl(const Engine& engine, std::int64_t max_tokens, std::int32_t num_layers)
      : probe(engine.device().id),
        kernels(probe, "replay", gpu_step_source()),
        token_hashes(engine, static_cast<std::size_t>(max_tokens) * sizeof(std::uint64_t)),
        sum(engine, sizeof(std::uint64_t)),
        step_begin(probe),
        step_end(probe) {
    probe.fill(sum.data(), 0, sizeof(std::uint64_t));
    for (std::int32_t i = 0; i < kNumMarks * num_layers; ++i) {
      marks.emplace_back(probe);
    }
  }
  const cuda::ProbeMark& at(std::int32_t layer, Mark mark) const {
    return marks[static_cast<std::size_t>(layer) * kNumMarks + static_cast<std::size_t>(mark)];
  }

  cuda::Probe probe;
  cuda::ProbeKernels kernels;
  DeviceBuffer token_hashes, sum;
  std::int32_t num_tokens = 0;
  std::deque<cuda::ProbeMark> marks;  // [layers][kNumMarks]
  cuda::ProbeMark step_begin, step_end;
  std::optional<cuda::ProbeGraph> graph;
};

std::unique_ptr<GpuStep> GpuStep::make(const Engine& engine, std::int64_t max_tokens, std::int32_t num_layers) {
  if (engine.device().type != DeviceType::cuda) {
    return nullptr;
  }
  return std::unique_ptr<GpuStep>(new GpuStep(std::make_unique<Impl>(engine, max_tokens, num_layers)));
}

GpuStep::GpuStep(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GpuStep::~GpuStep() = default;

Stream GpuStep::stream() const { return impl_->probe.stream(); }
void GpuStep::copy_to_host(void* to, const void* from, std::int64_t num_bytes) const {
  impl_->probe.copy_to_host(to, from, static_cast<std::size_t>(num_bytes));
}
void GpuStep::synchronise() const { impl_->probe.synchronise(); }

void GpuStep::set_tokens(std::span<const std::uint64_t> token_hashes) {
  impl_->num_tokens = static_cast<std::int32_t>(token_hashes.size());
  impl_->probe.copy_to_device(impl_->token_hashes.data(), token_hashes.data(), token_hashes.size_bytes());
}

void GpuStep::make(const Values& values, std::int32_t heads, std::int32_t dim, void* out) const {
  const void* token_hashes = impl_->token_hashes.data();
  std::uint64_t key = values.key();
  void* parameters[] = {&token_hashes, &key, &impl_->num_tokens, &heads, &dim, &out};
  impl_->kernels.launch("fill_values", {.ctas = kCtas * impl_->probe.num_multiprocessors(), .threads = kThreads}, parameters);
}

void GpuStep::add_digest(const void* rows, std::int64_t row_bytes, std::uint64_t key) const {
  auto row_words = static_cast<std::int32_t>(row_bytes / 8);
  void* sum = impl_->sum.data();
  void* parameters[] = {&rows, &impl_->num_tokens, &row_words, &key, &sum};
  impl_->kernels.launch("digest_rows", {.ctas = kCtas * impl_->probe.num_multiprocessors(), .threads = kThreads}, parameters);
}

std::uint64_t GpuStep::digest() const {
  std::uint64_t sum = 0;
  impl_->probe.copy_to_host(&sum, impl_->sum.data(), sizeof(sum));
  impl_->probe.synchronise();
  return sum;
}

void GpuStep::capture(const std::function<void()>& calls) { impl_->graph.emplace(impl_->probe, calls); }
bool GpuStep::has_graph() const { return impl_->graph.has_value(); }
void GpuStep::launch_graph() const { impl_->graph->launch(); }

void GpuStep::mark_step(StepMark mark) const { (mark == StepMark::begin ? impl_->step_begin : impl_->step_end).set(); }
double GpuStep::step_us() const { return cuda::ProbeMark::microseconds(impl_->step_begin, impl_->step_end); }

void GpuStep::mark(std::int32_t layer, Mark mark) const { impl_->at(layer, mark).set(); }
double GpuStep::append_us(std::int32_t layer) const {
  return cuda::ProbeMark::microseconds(impl_->at(layer, Mark::begin), impl_->at(layer, Mark::appended));
}
double GpuStep::run_us(std::int32_t layer) const {
  return cuda::ProbeMark::microseconds(impl_->at(layer, Mark::appended), impl_->at(layer, Mark::end));
}

}  // namespace fovea::serving
