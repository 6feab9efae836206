#include "backends/cuda/backend.h"

#include <mutex>

#include "backends/builtin_variants.h"
#include "backends/cuda/ahead.h"
#include "backends/cuda/memory.h"
#include "backends/cuda/module.h"
#include "backends/cuda/planner.h"
#include "backends/cuda/text_variants.h"
#include "backends/user_variants.h"
#include "src/support/check.h"

namespace fovea {
namespace cuda {
namespace {

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(int device_id) : gpu_(device_id), compiler_(gpu_.architecture(), driver().version) {}

  std::string name() const override { return "cuda"; }
  Device device() const override { return {DeviceType::cuda, gpu_.id}; }
  std::string describe() const override {
    return fmt::format("cuda:{} ({}, {}, {} multiprocessors, {} GiB; driver of CUDA {}; {})", gpu_.id, gpu_.name, gpu_.architecture(),
                       gpu_.num_multiprocessors, gpu_.memory_bytes >> 30, version_text(driver().version), compiler_.describe());
  }
  bool host_accessible() const override { return false; }
  std::span<const VariantInfo> variants() const override { return builtin_variants(); }
  const VariantInfo& variant(const Variant& variant) const override {
    return is_compiled_in(variant) ? builtin_variant(variant.name) : text_variants_.get(variant);
  }
  std::vector<CompileRecord> compiled() const override { return compiler_.records(); }

  std::vector<Candidate> candidates(const Problem& problem) const override {
    std::vector<Candidate> answers;
    for (const AttentionKernel& kernel : attention_kernels()) {
      answers.push_back(kernel.candidate(problem, variant(problem.spec.variant), limits_of(gpu_)));
    }
    if (!problem.spec.variant.sources.empty()) {
      fit_cheapest(compiler_, problem, limits_of(gpu_), answers);
    }
    return answers;
  }

  std::unique_ptr<Module> load(const Problem& problem, const Choice& choice) const override {
    ops();  // so that nothing compiles after prepare()
    planner();
    return load_attention(gpu_, compiler_, problem, choice);
  }

  void* allocate(std::size_t bytes) const override { return cuda::allocate(gpu_, bytes); }
  void free(void* memory) const noexcept override { free_memory(gpu_, memory); }

  void copy_to_device(void* to, const void* from, std::size_t bytes) const override {
    const ContextScope scope(gpu_.context());
    checked("cuMemcpyHtoD", driver().api.cuMemcpyHtoD(device_pointer(to), from, bytes), "{} bytes", bytes);
    wait_for_default_stream(bytes);
  }
  void copy_to_host(void* to, const void* from, std::size_t bytes) const override {
    const ContextScope scope(gpu_.context());
    checked("cuMemcpyDtoH", driver().api.cuMemcpyDtoH(to, device_pointer(from), bytes), "{} bytes", bytes);
  }
  void fill(void* memory, unsigned char byte, std::size_t bytes) const override {
    const ContextScope scope(gpu_.context());
    checked("cuMemsetD8", driver().api.cuMemsetD8(device_pointer(memory), byte, bytes), "{} bytes", bytes);
    wait_for_default_stream(bytes);
  }
  void synchronise(Stream stream) const override {
    const ContextScope scope(gpu_.context());
    checked("cuStreamSynchronize", driver().api.cuStreamSynchronize(cu_stream(stream)), "cuda:{}", gpu_.id);
  }
  std::string foreign_memory(const void* memory) const override { return cuda::foreign_memory(gpu_, memory); }
  bool is_capturing(Stream stream) const override {
    const ContextScope scope(gpu_.context());
    return cuda::is_capturing(cu_stream(stream));
  }

  bool plans_on_device() const override { return true; }
  void plan_on_device(const PlannerParams& params, Stream stream) const override { planner().plan(params, stream); }
  void* allocate_shared(std::size_t bytes) const override {
    const ContextScope scope(gpu_.context());
    void* memory = nullptr;
    checked("cuMemAllocHost", driver().api.cuMemAllocHost(&memory, bytes), "{} bytes of page-locked host memory", bytes);
    return memory;
  }
  void free_shared(void* memory) const noexcept override {
    try {
      const ContextScope scope(gpu_.context());
      driver().api.cuMemFreeHost(memory);
    } catch (const Error&) {  // NOLINT: the context is gone, and its memory with it
    }
  }

  void merge_states(const MergeStatesParams& params, Stream stream) const override { ops().merge_states(params, stream); }
  void append_kv(const AppendParams& params, Stream stream) const override { ops().append_kv(params, stream); }

 private:
  /// Copies and fills may return before they are done, and streams that don't wait for the default one would be too early.
  void wait_for_default_stream(std::size_t bytes) const {
    checked("cuStreamSynchronize", driver().api.cuStreamSynchronize(nullptr), "{} bytes written on cuda:{}", bytes, gpu_.id);
  }

  const CacheOps& ops() const {
    const std::lock_guard lock(mutex_);
    if (ops_ == nullptr) {
      ops_ = std::make_unique<CacheOps>(gpu_, compiler_);
    }
    return *ops_;
  }

  const Planner& planner() const {
    const std::lock_guard lock(mutex_);
    if (planner_ == nullptr) {
      planner_ = std::make_unique<Planner>(gpu_, compiler_);
    }
    return *planner_;
  }

  Gpu gpu_;
  Compiler compiler_;
  TextVariants text_variants_{&gpu_, compiler_};
  mutable std::mutex mutex_;
  mutable std::unique_ptr<CacheOps> ops_;
  mutable std::unique_ptr<Planner> planner_;
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(const EngineOptions& options) {
  FOVEA_CHECK(options.isa.empty(), "engine: isa '{}' is given with the cuda backend; it is of the cpu's", options.isa);
  return std::make_unique<cuda::CudaBackend>(options.device_id);
}

}  // namespace fovea
