// GpuStep in a build without the CUDA backend: there is none to be made.
#include "serving/gpu_step.h"

namespace fovea::serving {

struct GpuStep::Impl {};
const char* gpu_step_source() { return ""; }
std::unique_ptr<GpuStep> GpuStep::make(const Engine&, std::int64_t, std::int32_t) { return nullptr; }
GpuStep::GpuStep(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GpuStep::~GpuStep() = default;
Stream GpuStep::stream() const { return {}; }
void GpuStep::copy_to_host(void*, const void*, std::int64_t) const {}
void GpuStep::synchronise() const {}
void GpuStep::set_tokens(std::span<const std::uint64_t>) {}
void GpuStep::make(const Values&, std::int32_t, std::int32_t, void*) const {}
void GpuStep::add_digest(const void*, std::int64_t, std::uint64_t) const {}
std::uint64_t GpuStep::digest() const { return 0; }
void GpuStep::capture(const std::function<void()>&) {}
bool GpuStep::has_graph() const { return false; }
void GpuStep::launch_graph() const {}
void GpuStep::mark_step(StepMark) const {}
double GpuStep::step_us() const { return 0; }
void GpuStep::mark(std::int32_t, Mark) const {}
double GpuStep::append_us(std::int32_t) const { return 0; }
double GpuStep::run_us(std::int32_t) const { return 0; }

}  // namespace fovea::serving
