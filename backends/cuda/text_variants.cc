#include "backends/cuda/text_variants.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <vector>

#include "backends/builtin_variants.h"
#include "backends/cuda/device/variant_export.cuh"
#include "backends/cuda/memory.h"
#include "src/support/check.h"

namespace fovea::cuda {
namespace {

constexpr std::string_view kLastLines =
    R"(extern "C" __device__ const fovea::cuda::ExportedVariant<Rule> fovea_variant = fovea::cuda::exported_variant<Rule>();
extern "C" __global__ void fovea_range(const __grid_constant__ Rule::Mask mask, fovea::KvRange* range, volatile int32_t* asked, int32_t number) {
  *range = mask.range();
  __threadfence_system();
  *asked = number;
}
extern "C" __global__ void fovea_hooks(const __grid_constant__ Rule::Mask mask, const __grid_constant__ Rule::Params params,
                                       const __grid_constant__ fovea::Position<> at, float* x, int32_t head_dim) {
  fovea::cuda::call_hooks<Rule>(fovea::make_variant<Rule>(mask, params), mask, at, x, head_dim);
})";

/// The exported shape, and where in the cubin it begins.
std::pair<PackedShape, std::size_t> find_shape(const Variant& variant, std::string_view cubin) {
  const std::string_view marker(kVariantMarker, sizeof kVariantMarker);
  for (std::size_t at = cubin.find(marker); at != std::string_view::npos; at = cubin.find(marker, at + 1)) {
    PackedShape shape;
    if (at + sizeof shape > cubin.size()) {
      break;
    }
    std::memcpy(static_cast<void*>(&shape), cubin.data() + at, sizeof shape);
    if (shape.shape_bytes == sizeof shape && at + shape.params_at + shape.param_fields.struct_bytes <= cubin.size()) {
      return {shape, at};
    }
  }
  FOVEA_ASSERT(false, "the cubin of variant '{}' does not say what it is", variant.name);
}

FieldList unpacked(const PackedFields& from) {
  FieldList list;
  for (std::int32_t f = 0; f < from.count; ++f) {
    const PackedField& field = from.fields[f];
    list.fields[f] = {.name = field.name,
                      .type = field.type,
                      .required = field.required,
                      .offset = field.offset,
                      .part = field.part,
                      .extent = field.extent,
                      .at_least = field.at_least,
                      .above_zero = field.above_zero};
  }
  list.count = from.count;
  list.struct_bytes = from.struct_bytes;
  return list;
}

}  // namespace

/// Field names live here: a FieldList points at them.
struct TextVariant::Names {
  PackedShape packed;
};

/// Defaults from the cubin's bytes; ranges from a kernel, asked once for each value of the mask. A plan has the same mask step after step.
class TextVariant::OnGpu : public VariantOnDevice {
 public:
  OnGpu(const Variant& variant, const jit::Artefact& cubin, std::size_t at, const PackedShape& shape, const Gpu* gpu)
      : name_(variant.name),
        default_mask_(cubin.bytes.substr(at + shape.mask_at, shape.mask_fields.struct_bytes)),
        default_params_(cubin.bytes.substr(at + shape.params_at, shape.param_fields.struct_bytes)),
        gpu_(gpu) {
    if (gpu_ != nullptr) {
      module_ = std::make_unique<CubinModule>(*gpu_, cubin.bytes, variant.name);
      function_ = module_->function("fovea_range");
      const ContextScope scope(gpu_->context());
      void* memory = nullptr;
      checked("cuMemAllocHost", driver().api.cuMemAllocHost(&memory, sizeof(Answer)), "{} bytes", sizeof(Answer));
      answer_ = new (memory) Answer{};
      checked("cuStreamCreate", driver().api.cuStreamCreate(&stream_, kStreamNonBlocking), "");
      range_of(default_mask_.data());  // prepare() waits for the GPU, and most masks never change
    }
  }

  ~OnGpu() override {
    if (answer_ != nullptr) {
      const ContextScope scope(gpu_->context());
      driver().api.cuStreamDestroy(stream_);
      driver().api.cuMemFreeHost(answer_);
    }
  }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;

  void init_mask(void* mask) const override { std::memcpy(mask, default_mask_.data(), default_mask_.size()); }
  void init_params(void* params) const override { std::memcpy(params, default_params_.data(), default_params_.size()); }

  KvRange range_of(const void* mask) const override {
    FOVEA_ASSERT(gpu_ != nullptr, "the range of variant '{}' is asked for without a GPU", name_);
    std::string key(static_cast<const char*>(mask), default_mask_.size());
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(key);
    if (known != known_.end()) {
      return known->second;
    }
    if (known_.size() >= kMaxKnown) {
      known_.clear();
    }
    return known_[std::move(key)] = ask(mask);
  }

 private:
  static constexpr std::size_t kMaxKnown = 256;  // masks that change every step must not fill memory

  /// What the kernel writes, in memory of the host that the GPU reaches.
  struct Answer {
    KvRange range;
    std::int32_t number;  // of the last question that was answered
  };

  /// One thread on a stream of its own: this waits for no other stream's work, and for its own by looking at memory: no call of the driver
  /// that a capture elsewhere forbids. A kernel that never ran says so after kPatience.
  KvRange ask(const void* mask) const {
    constexpr std::chrono::seconds kPatience{2};
    const ContextScope scope(gpu_->context());
    KvRange* range = &answer_->range;
    std::int32_t* asked = &answer_->number;
    std::int32_t number = ++num_asked_;
    void* parameters[] = {const_cast<void*>(mask), &range, &asked, &number};
    launch(*gpu_, {.kernel = "fovea_range", .function = function_, .grid = 1, .threads = 1, .shared_bytes = 0}, stream_, parameters);
    const auto begin = std::chrono::steady_clock::now();
    while (std::atomic_ref(answer_->number).load(std::memory_order_acquire) != number) {
      if (std::chrono::steady_clock::now() - begin > kPatience) {
        checked("cuStreamSynchronize", driver().api.cuStreamSynchronize(stream_), "range of variant '{}'", name_);
      }
    }
    return answer_->range;
  }

  std::string name_, default_mask_, default_params_;
  const Gpu* gpu_;
  std::unique_ptr<CubinModule> module_;
  CUfunction function_ = nullptr;
  Answer* answer_ = nullptr;
  CUstream stream_ = nullptr;
  mutable std::int32_t num_asked_ = 0;
  mutable std::mutex mutex_;
  mutable std::map<std::string, KvRange> known_;
};

CompileRequest variant_program(const Variant& variant, std::string_view architecture) {
  const std::array<std::string_view, 1> includes{"backends/cuda/device/variant_export.cuh"};
  const jit::VariantProgram resolved = jit::resolve_variant(variant);
  return {.label = fmt::format("variant-{}", variant.name),
          .program = jit::generate_program({.variant = resolved,
                                            .target = fmt::format("the host, {}", architecture),
                                            .source_name = "source.cu",
                                            .includes = includes,
                                            .last_lines = kLastLines,
                                            .folders = kDeviceFolders}),
          .variant = variant.name};
}

TextVariant::TextVariant(const Variant& variant, const jit::Artefact& cubin, const Gpu* gpu)
    : variant_(variant), names_(std::make_unique<Names>()) {
  const auto [packed, at] = find_shape(variant, cubin.bytes);
  names_->packed = packed;
  VariantShape shape;
  shape.mask_fields = unpacked(names_->packed.mask_fields);
  shape.param_fields = unpacked(names_->packed.param_fields);
  shape.use_softmax = packed.use_softmax;
  shape.has_extra_logit = packed.has_extra_logit;
  shape.transforms_query = packed.transforms_query;
  shape.transforms_key = packed.transforms_key;
  shape.transforms_value = packed.transforms_value;
  shape.tile_answer = packed.tile_answer;
  on_gpu_ = std::make_unique<OnGpu>(variant, cubin, at, packed, gpu);
  shape_ = variant_info(variant.name, shape);
  shape_.on_device = on_gpu_.get();
}

TextVariant::~TextVariant() = default;

const VariantInfo& TextVariants::get(const Variant& variant) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(variants_.begin(), variants_.end(), [&](const TextVariant& known) { return known.variant() == variant; });
  if (found != variants_.end()) {
    return found->shape();
  }
  const CompileRequest request = variant_program(variant, compiler_.architecture());
  const std::vector<jit::Artefact> cubins = compiler_.compile({&request, 1}, fmt::format("variant '{}'", variant.name));
  return variants_.emplace_back(variant, cubins.front(), gpu_).shape();
}

}  // namespace fovea::cuda
