// What a captured plan costs the layers behind it. Run by hand on a GPU (--gtest_also_run_disabled_tests): prints, asserts nothing about
// time.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <optional>

#include "backends/cuda/testing/gpu_stream.h"
#include "fovea/fovea.h"

namespace fovea::cuda {
namespace {

using testing::GpuGraph;
using testing::GpuStream;

constexpr std::int64_t kQoHeads = 32, kKvHeads = 8, kDim = 128, kPageSize = 16;

/// A decode step of requests of one length, all layers on one cache.
class Decode {
 public:
  Decode(const Engine& engine, std::int32_t requests, std::int32_t tokens)
      : engine_(engine),
        requests_(requests),
        pages_(tokens / kPageSize),
        attention_(engine.prepare({.num_qo_heads = kQoHeads, .num_kv_heads = kKvHeads, .head_dim_qk = kDim, .variant = "causal"},
                                  {.max_requests = requests,
                                   .max_query_tokens = requests,
                                   .max_query_tokens_per_request = 1,
                                   .max_kv_tokens_per_request = tokens})),
        plan_(attention_.new_plan()),
        q_(engine, static_cast<std::size_t>(requests * kQoHeads * kDim * 2)),
        o_(engine, q_.bytes()),
        k_(engine, static_cast<std::size_t>(requests * tokens * kKvHeads * kDim * 2)),
        v_(engine, k_.bytes()),
        integers_(engine, static_cast<std::size_t>(2 * requests + 1 + requests * pages_) * sizeof(std::int32_t)) {
    std::vector<std::int32_t> values(integers_.bytes() / sizeof(std::int32_t));
    std::iota(values.begin(), values.begin() + requests + 1, 0);
    std::fill_n(values.begin() + requests + 1, requests, tokens);
    std::iota(values.begin() + 2 * requests + 1, values.end(), 0);
    integers_.write(values.data(), integers_.bytes());
    for (const DeviceBuffer* buffer : {&q_, &k_, &v_}) {
      buffer->fill(0x3c);
    }
  }
  void plan(Stream stream) {
    const KvTables tables = KvTables::table_2d(integers(2 * requests_ + 1, {requests_, pages_}), integers(requests_ + 1, {requests_}));
    attention_.plan(plan_, {.qo_indptr = integers(0, {requests_ + 1}), .kv = {&tables, 1}}, {}, stream);
  }
  void run(Stream stream, int layers) {
    const KvCache cache{.k = cache_view(k_), .v = cache_view(v_)};
    for (int layer = 0; layer < layers; ++layer) {
      attention_.run(plan_, {.q = rows(q_), .kv = {&cache, 1}, .o = rows(o_)}, stream);
    }
  }

 private:
  TensorView integers(std::int64_t at, std::initializer_list<std::int64_t> shape) const {
    return TensorView::contiguous(static_cast<std::int32_t*>(integers_.data()) + at, DType::i32, shape, engine_.device());
  }
  TensorView rows(const DeviceBuffer& buffer) const {
    return TensorView::contiguous(buffer.data(), DType::bf16, {requests_, kQoHeads, kDim}, engine_.device());
  }
  TensorView cache_view(const DeviceBuffer& buffer) const {
    return TensorView::contiguous(buffer.data(), DType::bf16, {requests_ * pages_, kPageSize, kKvHeads, kDim}, engine_.device());
  }

  Engine engine_;
  std::int64_t requests_, pages_;
  Attention attention_;
  Plan plan_;
  DeviceBuffer q_, o_, k_, v_, integers_;
};

/// Microseconds of a replay, the best of a few rounds.
double replay_time(const Engine& engine, const GpuStream& stream, const GpuGraph& graph, int replays) {
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    engine.synchronise(stream.get());
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < replays; ++i) {
      graph.launch(stream.get());
    }
    engine.synchronise(stream.get());
    best = std::min(best, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin).count() / replays);
  }
  return best;
}

TEST(DISABLED_CudaDevicePlanTime, PlanAndLayers) {
  std::optional<Engine> engine;
  try {
    engine.emplace(EngineOptions{.backend = "cuda"});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  constexpr int kLayers = 32;
  const GpuStream stream;
  const std::pair<std::int32_t, std::int32_t> shapes[] = {{64, 4096}, {16, 1024}, {1, 1024}};
  for (const auto& [requests, tokens] : shapes) {
    Decode decode(*engine, requests, tokens);
    decode.plan(stream.get());
    decode.run(stream.get(), 1);
    const GpuGraph plans = stream.capture([&] { decode.plan(stream.get()); });
    const GpuGraph layers = stream.capture([&] { decode.run(stream.get(), kLayers); });
    const GpuGraph both = stream.capture([&] {
      decode.plan(stream.get());
      decode.run(stream.get(), kLayers);
    });
    const int replays = requests == 64 ? 4 : 40;
    double alone = 1e9, planned = 1e9;
    for (int turn = 0; turn < 3; ++turn) {  // in turns: clocks drift
      alone = std::min(alone, replay_time(*engine, stream, layers, replays));
      planned = std::min(planned, replay_time(*engine, stream, both, replays));
    }
    std::printf("%d x %d: %d layers %.1f us, with a plan %.1f us (+%.2f %%, +%.1f us), a plan alone %.1f us\n", requests, tokens, kLayers,
                alone, planned, (planned / alone - 1) * 100, planned - alone, replay_time(*engine, stream, plans, 100));
  }
  engine->status();
}

}  // namespace
}  // namespace fovea::cuda
