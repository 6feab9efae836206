// Plans from lengths in device memory for the batches that few engines have: levels that are composed, row sets, tables per head, sparse
// matrices, fixed splits. The host's plan and its outputs, bit for bit. Skipped where there is no GPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>

#include "fovea/fovea.h"

namespace fovea::cuda {
namespace {

using Integers = std::vector<std::int32_t>;

constexpr std::int32_t kKvHeads = 2, kDim = 64, kPageSize = 16, kPages = 64, kRequests = 7, kMaxRows = 64;

struct Tables {
  Integers page_indptr{0}, page_indices, kv_len, row_indptr, row_indices;

  void add_group(std::mt19937& random, std::int32_t tokens) {
    for (std::int32_t i = 0; i < (tokens + kPageSize - 1) / kPageSize; ++i) {
      page_indices.push_back(std::uniform_int_distribution<std::int32_t>(0, kPages - 1)(random));
    }
    page_indptr.push_back(static_cast<std::int32_t>(page_indices.size()));
    kv_len.push_back(tokens);
  }
};

struct Step {
  Integers qo_indptr{0}, kv_len;
  std::vector<Tables> tables;

  std::int32_t num_rows() const { return qo_indptr.back(); }
};

Step some_requests(std::mt19937& random) {
  Step step;
  for (std::int32_t r = 0; r < kRequests; ++r) {
    step.qo_indptr.push_back(step.num_rows() + std::uniform_int_distribution<std::int32_t>(0, 3)(random));
  }
  return step;
}
std::int32_t tokens(std::mt19937& random, std::int32_t least = 0) {
  return std::uniform_int_distribution<std::int32_t>(least, 700)(random);
}

/// A prefix that two sets of requests share, and pages of their own.
Step composed(std::mt19937& random) {
  Step step = some_requests(random);
  step.tables.resize(2);
  const std::size_t first_of_second = static_cast<std::size_t>(std::uniform_int_distribution<int>(0, kRequests)(random));
  step.tables[0].row_indptr = {0, step.qo_indptr[first_of_second], step.num_rows()};
  for (int set = 0; set < 2; ++set) {
    step.tables[0].add_group(random, tokens(random));
  }
  for (std::int32_t r = 0; r < kRequests; ++r) {
    step.tables[1].add_group(random, tokens(random, 8));
  }
  return step;
}

/// Rows of any requests, in sets, named one by one.
Step row_sets(std::mt19937& random) {
  Step step = some_requests(random);
  Tables tables;
  tables.row_indptr = {0};
  while (tables.row_indptr.back() < step.num_rows()) {
    tables.row_indptr.push_back(
        std::min(step.num_rows(), tables.row_indptr.back() + std::uniform_int_distribution<std::int32_t>(0, 5)(random)));
    tables.add_group(random, tokens(random));
  }
  tables.row_indices.resize(static_cast<std::size_t>(step.num_rows()) + 1);  // never empty
  std::iota(tables.row_indices.begin(), tables.row_indices.end(), 0);
  std::shuffle(tables.row_indices.begin(), tables.row_indices.end() - 1, random);
  step.kv_len.assign(kRequests, 900);
  step.tables = {tables};
  return step;
}

Step tables_per_head(std::mt19937& random) {
  Step step = some_requests(random);
  step.tables.resize(1);
  for (std::int32_t i = 0; i < kRequests * kKvHeads; ++i) {
    step.tables[0].add_group(random, tokens(random));
  }
  step.kv_len.assign(kRequests, 900);
  return step;
}

/// Blocks of four query tokens, each with blocks of keys at their places.
Step sparse(std::mt19937& random) {
  Step step = some_requests(random);
  Tables tables;
  Integers all(kPages);
  std::iota(all.begin(), all.end(), 0);
  for (std::int32_t row = 0; row < step.num_rows(); row += 4) {
    std::shuffle(all.begin(), all.end(), random);
    const int count = std::uniform_int_distribution<int>(0, kPages / 2)(random);
    tables.page_indices.insert(tables.page_indices.end(), all.begin(), all.begin() + count);
    tables.page_indptr.push_back(static_cast<std::int32_t>(tables.page_indices.size()));
  }
  step.kv_len.assign(kRequests, kPages * kPageSize);
  step.tables = {tables};
  return step;
}

Step plain(std::mt19937& random) {
  Step step = some_requests(random);
  step.tables.resize(1);
  for (std::int32_t r = 0; r < kRequests; ++r) {
    step.tables[0].add_group(random, tokens(random));
  }
  return step;
}

struct Kind {
  const char* name;
  Step (*step)(std::mt19937& random);
  std::vector<KvFormat> formats;
  PrepareOptions options = {};
};

std::vector<Kind> kinds() {
  KvFormat per_head = KvFormat::paged(kPageSize);
  per_head.per_kv_head = true;
  const KvFormat paged = KvFormat::paged(kPageSize);
  return {{"composed", composed, {paged, paged}},
          {"composed, batch invariant", composed, {paged, paged}, {.policy = Policy::batch_invariant}},
          {"row sets", row_sets, {paged}},
          {"tables per head", tables_per_head, {per_head}},
          {"sparse", sparse, {KvFormat::block_sparse(4, kPageSize)}},
          {"fixed splits", plain, {paged}, {.policy = Policy::fixed_split, .fixed_split = 128}},
          {"batch invariant", plain, {paged}, {.policy = Policy::batch_invariant}}};
}

/// One layer, its tensors on a GPU.
class Layer {
 public:
  Layer(const Engine& engine, const Kind& kind)
      : engine_(engine),
        attention_(engine.prepare({.num_qo_heads = 8,
                                   .num_kv_heads = kKvHeads,
                                   .head_dim_qk = kDim,
                                   .o_dtype = DType::f32,
                                   .variant = "causal",
                                   .formats = kind.formats},
                                  {.max_requests = kRequests,
                                   .max_query_tokens = kMaxRows,
                                   .max_query_tokens_per_request = 4,
                                   .max_kv_tokens_per_request = 1536,
                                   .max_row_groups = 128},
                                  kind.options)),
        on_host_(attention_.new_plan()),
        on_device_(attention_.new_plan()),
        q_(random_bf16(kMaxRows * 8 * kDim)),
        k_(random_bf16(kPages * kPageSize * kKvHeads * kDim)),
        v_(random_bf16(kPages * kPageSize * kKvHeads * kDim)),
        o_(engine, kMaxRows * 8 * kDim * sizeof(float)) {}

  /// Plans and runs both ways. Empty, or what differs.
  std::string compare(const Step& step) {
    attention_.plan(on_host_, batch(step, false));
    attention_.plan(on_device_, batch(step, true));
    if (on_host_.view().to_string() != on_device_.view().to_string()) {
      return "host:\n" + on_host_.view().to_string() + "device:\n" + on_device_.view().to_string();
    }
    return outputs(on_host_) == outputs(on_device_) ? "" : "outputs differ";
  }

 private:
  TensorView view(const Integers& values, bool on_device) {
    if (values.empty()) {
      return {};
    }
    if (!on_device) {
      return TensorView::of(values);
    }
    const DeviceBuffer& buffer = integers_.emplace_back(engine_, values.size() * sizeof(std::int32_t));
    buffer.write(values.data(), buffer.bytes());
    return TensorView::contiguous(buffer.data(), DType::i32, {static_cast<std::int64_t>(values.size())}, engine_.device());
  }
  Batch batch(const Step& step, bool on_device) {
    tables_.clear();
    for (const Tables& t : step.tables) {
      tables_.push_back({.page_indptr = view(t.page_indptr, on_device),
                         .page_indices = view(t.page_indices.empty() ? Integers{0} : t.page_indices, true),
                         .kv_len = view(t.kv_len, on_device),
                         .row_indptr = view(t.row_indptr, on_device),
                         .row_indices = view(t.row_indices, on_device)});
    }
    return {.qo_indptr = view(step.qo_indptr, on_device), .kv = tables_, .kv_len = view(step.kv_len, on_device)};
  }
  std::vector<char> outputs(const Plan& plan) {
    o_.fill(0x7f);
    const std::vector<KvCache> caches(tables_.size(), {.k = cache(k_), .v = cache(v_)});
    attention_.run(plan, {.q = TensorView::contiguous(q_.data(), DType::bf16, {kMaxRows, 8, kDim}, engine_.device()),
                          .kv = caches,
                          .o = TensorView::contiguous(o_.data(), DType::f32, {kMaxRows, 8, kDim}, engine_.device())});
    engine_.synchronise();
    std::vector<char> all(o_.bytes());
    o_.read(all.data(), all.size());
    return all;
  }
  TensorView cache(const DeviceBuffer& memory) const {
    return TensorView::contiguous(memory.data(), DType::bf16, {kPages, kPageSize, kKvHeads, kDim}, engine_.device());
  }
  DeviceBuffer random_bf16(std::int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
    for (std::uint16_t& value : values) {
      const float number = normal(random_);
      std::uint32_t bits;
      std::memcpy(&bits, &number, sizeof bits);
      value = static_cast<std::uint16_t>(bits >> 16);
    }
    DeviceBuffer buffer(engine_, values.size() * sizeof(std::uint16_t));
    buffer.write(values.data(), buffer.bytes());
    return buffer;
  }

  Engine engine_;
  Attention attention_;
  Plan on_host_, on_device_;
  std::mt19937 random_{5};
  DeviceBuffer q_, k_, v_, o_;
  std::vector<KvTables> tables_;
  std::vector<DeviceBuffer> integers_;
};

TEST(CudaDevicePlanKinds, TheSamePlanAndOutputsAsTheHosts) {
  std::optional<Engine> gpu;
  try {
    gpu.emplace(EngineOptions{.backend = "cuda"});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  gpu->status();
  for (const Kind& kind : kinds()) {
    Layer layer(*gpu, kind);
    std::mt19937 random(17);
    for (int i = 0; i < 12; ++i) {
      ASSERT_EQ(layer.compare(kind.step(random)), "") << kind.name << ", step " << i;
      const std::vector<std::string> status = gpu->status();
      ASSERT_TRUE(status.empty()) << kind.name << ", step " << i << ": " << status[0];
    }
  }
}

}  // namespace
}  // namespace fovea::cuda
