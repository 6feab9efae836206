#include "bench/gpu_workloads.h"

#include <fmt/format.h>

#include <algorithm>

namespace fovea::bench {
namespace {

constexpr std::int32_t kKvHeads = 8;

struct Shape {
  std::int32_t head_dim = 128, group = 4;
  KvFormat format = KvFormat::paged(16);
  DType kv = DType::bf16;
};

AttentionSpec spec_of(const Shape& shape, std::int32_t kv_heads) {
  return {.num_qo_heads = kv_heads * shape.group,
          .num_kv_heads = kv_heads,
          .head_dim_qk = shape.head_dim,
          .k_dtype = shape.kv,
          .v_dtype = shape.kv,
          .variant = "causal",
          .formats = {shape.format}};
}

std::string tokens_text(std::int32_t tokens) { return tokens % 1024 == 0 ? fmt::format("{}k", tokens / 1024) : fmt::format("{}", tokens); }

Workload workload_of(const std::string& name, const Shape& shape, std::vector<RequestLengths> requests) {
  Workload workload{.spec = spec_of(shape, kKvHeads), .requests = std::move(requests)};
  workload.name = name + "_" + shape_of(workload.spec);
  return workload;
}

Workload even(std::int32_t requests, std::int32_t tokens, const Shape& shape = {}) {
  return workload_of(fmt::format("decode_{}x{}", requests, tokens_text(tokens)), shape,
                     std::vector<RequestLengths>(static_cast<std::size_t>(requests), {.qo_len = 1, .kv_len = tokens}));
}

/// The batch and the same tokens evenly spread.
void add_skewed(std::vector<GpuPoint>& points, const std::string& name, const std::vector<std::int32_t>& lengths) {
  std::vector<RequestLengths> requests;
  std::int64_t total = 0;
  for (const std::int32_t length : lengths) {
    requests.push_back({.qo_len = 1, .kv_len = length});
    total += length;
  }
  const auto count = static_cast<std::int32_t>(lengths.size());
  points.push_back({.workload = even(count, static_cast<std::int32_t>(total / count))});
  const std::string even_name = points.back().workload.name;
  points.push_back({.workload = workload_of(name, {}, std::move(requests)), .even = even_name});
}

}  // namespace

std::string shape_of(const AttentionSpec& spec) {
  const KvFormat& format = spec.formats[0];
  return fmt::format("d{}_{}_{}_g{}", spec.head_dim_qk, format.has_table ? fmt::format("p{}", format.page_size) : "ragged",
                     name_of(spec.k_dtype), spec.num_qo_heads / spec.num_kv_heads);
}

std::vector<GpuPoint> gpu_decode_points() {
  std::vector<GpuPoint> points;
  const auto add = [&](Workload workload) { points.push_back({.workload = std::move(workload)}); };
  add(even(64, 4096));
  add(even(16, 32768));
  add(even(1, 131072));
  add(even(64, 4096, {.format = KvFormat::paged(1)}));
  add(even(64, 4096, {.format = KvFormat::ragged()}));
  add(even(64, 4096, {.head_dim = 64}));
  add(even(64, 4096, {.head_dim = 256}));
  add(even(64, 4096, {.kv = DType::e4m3}));
  for (const std::int32_t group : {1, 8, 16}) {
    add(even(64, 4096, {.group = group}));
  }
  std::vector<std::int32_t> zipf, one_long(64, 1024);
  for (std::int32_t rank = 1; rank <= 64; ++rank) {
    zipf.push_back(65536 / rank);
  }
  std::rotate(zipf.begin(), zipf.begin() + 17, zipf.end());  // the longest is not the first
  one_long[40] = 131072;
  add_skewed(points, "decode_zipf64", zipf);
  add_skewed(points, "decode_1x128k_63x1k", one_long);
  return points;
}

std::vector<GpuPoint> gpu_prefill_points() {
  constexpr std::int32_t kTokens = 16384, kWidth = 2048;  // heads x head_dim
  std::vector<GpuPoint> points;
  for (const std::int32_t head_dim : {64, 128, 256}) {
    for (std::int32_t tokens = 1024; tokens <= kTokens; tokens *= 2) {
      const std::int32_t requests = kTokens / tokens;
      Workload workload{.spec = spec_of({.head_dim = head_dim, .group = 1, .format = KvFormat::ragged()}, kWidth / head_dim),
                        .requests = std::vector<RequestLengths>(static_cast<std::size_t>(requests), {.qo_len = tokens, .kv_len = tokens})};
      workload.name = fmt::format("prefill_{}x{}_{}", requests, tokens_text(tokens), shape_of(workload.spec));
      points.push_back({.workload = std::move(workload)});
    }
  }
  return points;
}

}  // namespace fovea::bench
