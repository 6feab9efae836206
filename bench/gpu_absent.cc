// Gpu in a build without the CUDA backend: no engine there has a GPU, so that nothing here is reached but the constructor.
#include "bench/batch_arrays.h"
#include "bench/gpu.h"
#include "fovea/error.h"

namespace fovea::bench {

struct Gpu::Impl {};
struct Gpu::Chain::Impl {};

std::string LoadConfig::name() const { return "load_only"; }
std::vector<LoadConfig> load_configs() { return {}; }
std::string gpu_kernels_source() { return {}; }
Gpu::Gpu(const Engine& engine) : engine_(engine) { throw Unsupported("bench: this program was built without the CUDA backend"); }
Gpu::~Gpu() = default;
Stream Gpu::stream() const { return {}; }
std::int64_t Gpu::l2_bytes() const { return 0; }
std::int64_t Gpu::free_bytes() const { return 0; }
void Gpu::fill_random(const DeviceBuffer&, DType, std::uint64_t) const {}
void Gpu::load_only(const LoadConfig&, const LoadList&, const void*, const void*) const {}
void Gpu::read_in_order(const void*, std::int64_t) const {}
double Gpu::multiply(std::int64_t) const { return 0; }
Gpu::Chain::Chain(const Gpu&, int, const std::function<void(int)>&) {}
Gpu::Chain::~Chain() = default;
Gpu::Chain::Chain(Chain&&) noexcept = default;
double Gpu::Chain::microseconds() const { return 0; }
bool LoadList::serves(const AttentionSpec&) { return false; }
LoadList::LoadList(const Gpu&, const Workload&, const BatchArrays&) {}

}  // namespace fovea::bench
