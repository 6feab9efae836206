// Prints what plan() and run() take the host on a GPU: medians of many calls, the stream drained before each, so that no call waits for
// room in a queue. A program, not a test: nothing depends on times.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <vector>

#include "backends/cuda/testing/gpu_stream.h"
#include "fovea/fovea.h"

namespace fovea::cuda::testing {
namespace {

constexpr std::int64_t kQoHeads = 32, kKvHeads = 8, kDim = 128, kPageSize = 16;
constexpr int kCalls = 300;

struct Case {
  const char* name;
  int requests, qo_len, kv_len;
};
constexpr Case kCases[] = {
    {"decode, 33 requests of 64 tokens", 33, 1, 64},
    {"decode, 64 requests of 1024 tokens", 64, 1, 1024},
    {"decode, 1 request of 16384 tokens", 1, 1, 16384},
    {"prefill, 4 requests of 1024 tokens", 4, 1024, 1024},
};

template <class Call>
void report(const Engine& engine, Stream stream, const char* name, const Call& call, int calls = kCalls) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> us;
  for (int i = 0; i < calls; ++i) {
    engine.synchronise(stream);
    const Clock::time_point begin = Clock::now();
    call();
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
  }
  engine.synchronise(stream);
  std::sort(us.begin(), us.end());
  fmt::print("  {:<8} {:6.2f} us ({:.2f} .. {:.2f})\n", name, us[us.size() / 2], us[us.size() / 10], us[us.size() * 9 / 10]);
}

Attention prepare(const Engine& engine) {
  return engine.prepare({.num_qo_heads = kQoHeads, .num_kv_heads = kKvHeads, .head_dim_qk = kDim, .formats = {KvFormat::paged(kPageSize)}},
                        {.max_requests = 256, .max_query_tokens = 8192, .max_kv_tokens_per_request = 16384});
}

/// What comes once a model: kernels are compiled already, a plan's buffers are not there.
void run_once_a_model(const Engine& engine) {
  constexpr int kFewCalls = 20;
  const GpuStream stream;
  const Attention attention = prepare(engine);
  Plan plan = attention.new_plan();  // the planner's kernel is loaded
  fmt::print("once a model, {} MB a plan\n", attention.workspace_bytes() / 1'000'000);
  report(
      engine, stream.get(), "prepare", [&] { prepare(engine); }, kFewCalls);
  report(
      engine, stream.get(), "new_plan", [&] { plan = attention.new_plan(); }, kFewCalls);
}

void run_case(const Engine& engine, const Case& c) {
  const Attention attention = prepare(engine);
  Plan plan = attention.new_plan();
  const GpuStream stream;
  const int pages_each = (c.kv_len + static_cast<int>(kPageSize) - 1) / static_cast<int>(kPageSize);
  std::vector<std::int32_t> qo_indptr{0}, page_indptr{0}, kv_len;
  for (int r = 0; r < c.requests; ++r) {
    qo_indptr.push_back(qo_indptr.back() + c.qo_len);
    page_indptr.push_back(page_indptr.back() + pages_each);
    kv_len.push_back(c.kv_len);
  }
  std::vector<std::int32_t> page_ids(static_cast<std::size_t>(page_indptr.back()));
  for (std::size_t i = 0; i < page_ids.size(); ++i) {
    page_ids[i] = static_cast<std::int32_t>(i);
  }
  const std::int64_t rows = qo_indptr.back(), pages = page_indptr.back();
  const auto buffer = [&](std::int64_t elements) { return DeviceBuffer(engine, static_cast<std::size_t>(elements) * 2); };
  const DeviceBuffer ids(engine, page_ids.size() * sizeof(std::int32_t)),
      q = buffer(rows * kQoHeads * kDim), o = buffer(rows * kQoHeads * kDim), k = buffer(pages * kPageSize * kKvHeads * kDim),
      v = buffer(pages * kPageSize * kKvHeads * kDim);
  ids.write(page_ids.data(), ids.bytes());
  const auto view = [&](const DeviceBuffer& memory, DType dtype, std::initializer_list<std::int64_t> shape) {
    return TensorView::contiguous(memory.data(), dtype, shape, engine.device());
  };
  KvTables tables{.page_indptr = TensorView::of(page_indptr), .page_indices = view(ids, DType::i32, {pages})};
  tables.kv_len = TensorView::of(kv_len);
  const Batch batch{.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}};
  const KvCache cache{.k = view(k, DType::bf16, {pages, kPageSize, kKvHeads, kDim}),
                      .v = view(v, DType::bf16, {pages, kPageSize, kKvHeads, kDim})};
  const RunArgs args{
      .q = view(q, DType::bf16, {rows, kQoHeads, kDim}), .kv = {&cache, 1}, .o = view(o, DType::bf16, {rows, kQoHeads, kDim})};

  attention.plan(plan, batch, {}, stream.get());
  attention.run(plan, args, stream.get());
  fmt::print("{}: {} merges\n", c.name, plan.view().num_merges);
  report(engine, stream.get(), "plan", [&] { attention.plan(plan, batch, {}, stream.get()); });
  report(engine, stream.get(), "run", [&] { attention.run(plan, args, stream.get()); });
}

}  // namespace
}  // namespace fovea::cuda::testing

int main() {
  try {
    const fovea::Engine engine({.backend = "cuda"});
    fmt::print("{}\n", engine.describe());
    fovea::cuda::testing::run_once_a_model(engine);
    for (const auto& c : fovea::cuda::testing::kCases) {
      fovea::cuda::testing::run_case(engine, c);
    }
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    return 1;
  }
  return 0;
}
