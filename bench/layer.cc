#include "bench/layer.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "bench/machine.h"
#include "bench/random.h"
#include "fovea/error.h"

namespace fovea::bench {
namespace {

constexpr std::size_t kHugePage = 1 << 21;
constexpr std::size_t kFillBytes = 1 << 20;  // filled from one seed: the contents don't depend on the number of threads

std::int64_t heads_x_dims(const AttentionSpec& spec) {
  const std::int32_t vo = spec.head_dim_vo > 0 ? spec.head_dim_vo : spec.head_dim_qk;
  return std::int64_t{spec.num_kv_heads} * (spec.head_dim_qk + vo);
}

KvCache cache_in(std::byte* memory, const AttentionSpec& spec, std::int64_t num_pages, Device device) {
  const KvFormat& format = spec.formats[0];
  const std::int32_t vo = spec.head_dim_vo > 0 ? spec.head_dim_vo : spec.head_dim_qk;
  const std::int64_t slots = num_pages * (format.has_table ? format.page_size : 1);
  std::byte* v = memory + bytes_of(spec.k_dtype, slots * spec.num_kv_heads * spec.head_dim_qk);
  if (!format.has_table) {
    return {.k = TensorView::contiguous(memory, spec.k_dtype, {slots, spec.num_kv_heads, spec.head_dim_qk}, device),
            .v = TensorView::contiguous(v, spec.v_dtype, {slots, spec.num_kv_heads, vo}, device)};
  }
  return {.k = TensorView::contiguous(memory, spec.k_dtype, {num_pages, format.page_size, spec.num_kv_heads, spec.head_dim_qk}, device),
          .v = TensorView::contiguous(v, spec.v_dtype, {num_pages, format.page_size, spec.num_kv_heads, vo}, device)};
}

Attention prepare(const Engine& engine, const Workload& workload) {
  if (workload.spec.kv_quant != KvQuant::none && workload.spec.kv_quant != KvQuant::tensor) {
    throw InvalidArgument(
        fmt::format("bench: workload '{}' has scales per head or token; bench times kv_quant none and tensor", workload.name));
  }
  return engine.prepare(workload.spec, limits_of(workload));
}

std::int64_t kv_elements(const Workload& workload, const BatchArrays& arrays) {
  const KvFormat& format = workload.spec.formats[0];
  return arrays.num_pages() * (format.has_table ? format.page_size : 1) * heads_x_dims(workload.spec);
}

}  // namespace

ElementBits element_bits_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return {.keep = 0x807fffff807fffffull, .set = 0x3f0000003f000000ull};
    case DType::bf16:
      return {.keep = 0x80ff80ff80ff80ffull, .set = 0x3f003f003f003f00ull};
    case DType::f16:
      return {.keep = 0x87ff87ff87ff87ffull, .set = 0x3800380038003800ull};
    case DType::e4m3:
      return {.keep = 0x8787878787878787ull, .set = 0x3030303030303030ull};
    case DType::e5m2:
      return {.keep = 0x8383838383838383ull, .set = 0x3838383838383838ull};
    default:
      return {.keep = ~0ull, .set = 0};
  }
}

void RandomMemory::Free::operator()(std::byte* memory) const { std::free(memory); }

RandomMemory::RandomMemory(DType dtype, std::int64_t count, std::uint64_t seed) {
  bytes_ = bytes_of(dtype, count);
  const std::size_t rounded = (static_cast<std::size_t>(std::max<std::int64_t>(bytes_, 1)) + kHugePage - 1) / kHugePage * kHugePage;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, rounded)));
  if (!memory_) {
    throw std::bad_alloc();
  }
  madvise(memory_.get(), rounded, MADV_HUGEPAGE);  // a hint: nothing depends on it but speed
  const ElementBits bits = element_bits_of(dtype);
  tbb::parallel_for(std::size_t{0}, rounded / kFillBytes, [&](std::size_t piece) {
    Random random(seed * 0x10001 + piece);
    auto* words = reinterpret_cast<std::uint64_t*>(memory_.get() + piece * kFillBytes);
    for (std::size_t i = 0; i < kFillBytes / sizeof(std::uint64_t); ++i) {
      words[i] = (random.next() & bits.keep) | bits.set;
    }
  });
}

RandomMemory::RandomMemory(const Gpu& gpu, DType dtype, std::int64_t count, std::uint64_t seed) : bytes_(bytes_of(dtype, count)) {
  device_.emplace(gpu.engine(), static_cast<std::size_t>((bytes_ + 7) / 8 * 8));
  gpu.fill_random(*device_, dtype, seed);
}

RandomMemory Layer::random(DType dtype, std::int64_t count, std::uint64_t seed) const {
  return gpu_ != nullptr ? RandomMemory(*gpu_, dtype, count, seed) : RandomMemory(dtype, count, seed);
}

Layer::Layer(const Engine& engine, const Workload& workload, int kv_copies, const Gpu* gpu)
    : workload_(workload),
      gpu_(gpu),
      device_(engine.device()),
      values_(workload_, &engine),
      arrays_(workload_),
      attention_(prepare(engine, workload_)),
      plan_(attention_.new_plan()),
      q_(random(workload_.spec.q_dtype, workload_.query_tokens() * workload_.spec.num_qo_heads * workload_.spec.head_dim_qk, 1)),
      o_(random(workload_.spec.o_dtype,
                workload_.query_tokens() * workload_.spec.num_qo_heads * std::max(workload_.spec.head_dim_vo, workload_.spec.head_dim_qk),
                2)) {
  const std::int64_t elements = kv_elements(workload_, arrays_);
  const std::int64_t bytes = bytes_of(workload_.spec.k_dtype, elements);
  if (const std::int64_t room = gpu_ != nullptr ? gpu_->free_bytes() : this_machine().available_bytes * 3 / 4;
      room > 0 && bytes * kv_copies > room) {
    throw InvalidArgument(
        fmt::format("bench: workload '{}' needs {} copies of {} MiB of KV, but {} MiB of memory are free; make it smaller", workload_.name,
                    kv_copies, bytes >> 20, room >> 20));
  }
  for (int copy = 0; copy < kv_copies; ++copy) {
    kv_.push_back(random(workload_.spec.k_dtype, elements, static_cast<std::uint64_t>(copy) + 3));
    for (std::size_t f = 0; f < workload_.spec.formats.size(); ++f) {
      caches_.push_back(cache_in(kv_.back().data(), workload_.spec, arrays_.num_pages(), device_));
    }
  }
  arrays_.put_pages_on(engine);
  attention_.plan(plan_, arrays_.batch(), values_.plan_args(), gpu_ != nullptr ? gpu_->stream() : Stream{});
}

void Layer::run(int copy) {
  const AttentionSpec& spec = workload_.spec;
  const std::size_t num_formats = spec.formats.size();
  const std::int32_t vo = spec.head_dim_vo > 0 ? spec.head_dim_vo : spec.head_dim_qk;
  const std::int64_t tokens = workload_.query_tokens();
  const std::size_t c = static_cast<std::size_t>(copy) % kv_.size();
  attention_.run(plan_,
                 {.q = TensorView::contiguous(q_.data(), spec.q_dtype, {tokens, spec.num_qo_heads, spec.head_dim_qk}, device_),
                  .kv = std::span(caches_).subspan(c * num_formats, num_formats),
                  .o = TensorView::contiguous(o_.data(), spec.o_dtype, {tokens, spec.num_qo_heads, vo}, device_),
                  .params = values_.params()},
                 gpu_ != nullptr ? gpu_->stream() : Stream{});
}

std::span<const std::byte> Layer::kv_bytes(int copy) const {
  const RandomMemory& memory = kv_[static_cast<std::size_t>(copy) % kv_.size()];
  return {memory.data(), static_cast<std::size_t>(memory.bytes())};
}

std::int64_t window_of(const Workload& workload) {
  for (const NamedNumber& value : workload.mask) {
    if (const auto* left = std::get_if<std::int64_t>(&value.value); left != nullptr && value.name.ends_with("window_left")) {
      return *left + 1;
    }
  }
  return 0;
}

double flops_of(const Workload& workload) {
  const AttentionSpec& spec = workload.spec;
  const bool causal = spec.variant.name.find("full") == std::string::npos && spec.variant.name.find("custom_mask") == std::string::npos;
  const std::int64_t tokens = window_of(workload);
  const double window = tokens > 0 ? static_cast<double>(tokens) : 1e18;
  double pairs = 0;
  for (const RequestLengths& request : workload.requests) {
    for (std::int32_t i = 0; i < request.qo_len; ++i) {
      const double sees = causal ? std::max(0, request.kv_len - request.qo_len + i + 1) : request.kv_len;
      pairs += std::min(sees, window);
    }
  }
  const std::int32_t vo = spec.head_dim_vo > 0 ? spec.head_dim_vo : spec.head_dim_qk;
  return 2.0 * pairs * spec.num_qo_heads * (spec.head_dim_qk + vo);
}

std::int64_t kv_bytes_of(const Workload& workload) {
  return bytes_of(workload.spec.k_dtype, workload.kv_tokens() * heads_x_dims(workload.spec));
}

}  // namespace fovea::bench
