// Plans from lengths in device memory, end to end on a GPU: captured with the layers that run them, replayed while lengths, tables and the
// number of requests change, good and bad. Skipped where there is no GPU.
#include <gtest/gtest.h>

#include <cstring>
#include <optional>
#include <random>

#include "backends/cuda/testing/counted_driver.h"
#include "backends/cuda/testing/gpu_stream.h"
#include "fovea/fovea.h"

namespace fovea::cuda {
namespace {

using testing::CountedDriver;
using testing::GpuGraph;
using testing::GpuStream;

constexpr std::int64_t kQoHeads = 8, kKvHeads = 2, kDim = 64, kPageSize = 16, kPages = 4096, kWidth = 128, kMaxRows = 96, kLayers = 8;
constexpr std::int32_t kMaxRequests = 24;
constexpr std::int32_t kBad[] = {-1, -(1 << 30), 0x7fffffff, static_cast<std::int32_t>(kWidth* kPageSize) + 1};

struct Step {
  std::vector<std::int32_t> qo_indptr = std::vector<std::int32_t>(kMaxRequests + 1);
  std::vector<std::int32_t> kv_len = std::vector<std::int32_t>(kMaxRequests);
  std::vector<std::int32_t> table = std::vector<std::int32_t>(static_cast<std::size_t>(kMaxRequests * kWidth));
  std::int32_t num_requests = 0;
  bool makes_sense = true;  // else it is planned as one of no requests
};

/// Eight layers with tensors of their own and one cache, on a GPU.
class Model {
 public:
  explicit Model(const Engine& engine)
      : engine_(engine),
        attention_(engine.prepare({.num_qo_heads = kQoHeads,
                                   .num_kv_heads = kKvHeads,
                                   .head_dim_qk = kDim,
                                   .o_dtype = DType::f32,
                                   .variant = "causal",
                                   .formats = {KvFormat::paged(kPageSize)}},
                                  {.max_requests = kMaxRequests,
                                   .max_query_tokens = kMaxRows,
                                   .max_query_tokens_per_request = 40,
                                   .max_kv_tokens_per_request = kWidth * kPageSize})),
        on_host(attention_.new_plan()),
        on_device(attention_.new_plan()) {
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      q_.push_back(random_bf16(kMaxRows * kQoHeads * kDim));
      o_.emplace_back(engine, kOutputBytes);
    }
    k_.emplace(random_bf16(kPages * kPageSize * kKvHeads * kDim));
    v_.emplace(random_bf16(kPages * kPageSize * kKvHeads * kDim));
  }

  /// Into the device's memory, whose addresses stay.
  void write(const Step& step) {
    step_ = step;
    qo_indptr_.write(step.qo_indptr.data(), qo_indptr_.bytes());
    kv_len_.write(step.kv_len.data(), kv_len_.bytes());
    table_.write(step.table.data(), table_.bytes());
    num_requests_.write(&step.num_requests, sizeof step.num_requests);
  }

  Batch device_batch() {
    tables_ = KvTables::table_2d(page_table(), view(kv_len_, DType::i32, {kMaxRequests}));
    return {.qo_indptr = view(qo_indptr_, DType::i32, {kMaxRequests + 1}),
            .kv = {&tables_, 1},
            .num_requests = view(num_requests_, DType::i32, {1})};
  }
  void plan_on_device(Stream stream) { attention_.plan(on_device, device_batch(), {}, stream); }

  /// The same requests from the host; what is bad has no tokens.
  void plan_on_host(Stream stream) {
    const std::size_t n = step_.makes_sense ? static_cast<std::size_t>(step_.num_requests) : 0;
    std::vector<std::int32_t> kv_len(step_.kv_len.begin(), step_.kv_len.begin() + static_cast<std::ptrdiff_t>(n));
    for (std::int32_t& tokens : kv_len) {
      tokens = tokens < 0 || tokens > kWidth * kPageSize ? 0 : tokens;
    }
    const KvTables tables = KvTables::table_2d(page_table(), TensorView::of(kv_len));
    attention_.plan(on_host, {.qo_indptr = TensorView::of(std::span(step_.qo_indptr).first(n + 1)), .kv = {&tables, 1}}, {}, stream);
  }

  RunArgs args(std::size_t layer) {
    cache_.k = view(*k_, DType::bf16, {kPages, kPageSize, kKvHeads, kDim});
    cache_.v = view(*v_, DType::bf16, {kPages, kPageSize, kKvHeads, kDim});
    return {.q = view(q_[layer], DType::bf16, {kMaxRows, kQoHeads, kDim}),
            .kv = {&cache_, 1},
            .o = view(o_[layer], DType::f32, {kMaxRows, kQoHeads, kDim})};
  }
  void run(const Plan& plan, Stream stream) {
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      attention_.run(plan, args(layer), stream);
    }
  }
  void forget_outputs() {
    const std::vector<char> poison(kOutputBytes, 0x7f);
    for (const DeviceBuffer& o : o_) {
      o.write(poison.data(), poison.size());
    }
  }
  /// All rows, those that no request has too.
  std::vector<char> outputs(Stream stream) {
    engine_.synchronise(stream);
    std::vector<char> all(kLayers * kOutputBytes);
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      o_[layer].read(all.data() + layer * kOutputBytes, kOutputBytes);
    }
    return all;
  }
  const Attention& attention() const { return attention_; }

 private:
  static constexpr std::size_t kOutputBytes = static_cast<std::size_t>(kMaxRows * kQoHeads * kDim) * sizeof(float);

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
  TensorView view(const DeviceBuffer& buffer, DType dtype, std::initializer_list<std::int64_t> shape) const {
    return TensorView::contiguous(buffer.data(), dtype, shape, engine_.device());
  }
  TensorView page_table() const { return view(table_, DType::i32, {kMaxRequests, kWidth}); }

  Engine engine_;
  Attention attention_;
  std::mt19937 random_{5};
  std::vector<DeviceBuffer> q_, o_;
  std::optional<DeviceBuffer> k_, v_;
  DeviceBuffer qo_indptr_{engine_, (kMaxRequests + 1) * sizeof(std::int32_t)}, kv_len_{engine_, kMaxRequests * sizeof(std::int32_t)},
      table_{engine_, kMaxRequests* kWidth * sizeof(std::int32_t)}, num_requests_{engine_, sizeof(std::int32_t)};
  KvCache cache_;
  KvTables tables_;
  Step step_;

 public:
  Plan on_host, on_device;
};

/// A number of requests or query tokens that can't be.
void break_rows(std::mt19937& random, Step& step) {
  const auto between = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  constexpr std::int32_t kNoCount[] = {-1, kMaxRequests + 1, 1 << 30}, kNoRow[] = {-1, static_cast<std::int32_t>(kMaxRows) + 1, 1 << 30};
  step.makes_sense = false;
  if (step.num_requests == 0 || between(0, 1) == 0) {
    step.num_requests = kNoCount[between(0, 2)];
  } else {
    step.qo_indptr[static_cast<std::size_t>(between(0, step.num_requests))] = kNoRow[between(0, 2)];
  }
}

/// 0 to all requests; none, few or many query tokens; no, few or many tokens of KV; sometimes lengths or rows that are none, and page ids
/// that are none behind a request's own.
Step random_step(std::mt19937& random, bool& bad) {
  const auto between = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
  Step step;
  step.num_requests = between(0, 7) == 0 ? between(0, 1) * kMaxRequests : between(0, kMaxRequests);
  bad = false;
  for (std::size_t r = 0; r < kMaxRequests; ++r) {
    const int room = static_cast<int>(kMaxRows) - step.qo_indptr[r];
    const int kind = between(0, 9);
    step.qo_indptr[r + 1] = step.qo_indptr[r] + std::min(room, kind == 0 ? 0 : kind == 1 ? between(2, 40) : 1);
    step.kv_len[r] = kind == 2 ? 0 : kind == 3 ? between(1, static_cast<int>(kWidth * kPageSize)) : between(1, 300);
    if (between(0, 39) == 0) {
      step.kv_len[r] = kBad[between(0, 3)];
      bad |= static_cast<int>(r) < step.num_requests;
    }
    for (std::int64_t i = 0; i < kWidth; ++i) {
      step.table[r * kWidth + static_cast<std::size_t>(i)] =
          i * kPageSize < step.kv_len[r] ? between(0, static_cast<int>(kPages) - 1) : -(1 << 30);
    }
  }
  for (std::size_t r = static_cast<std::size_t>(step.num_requests); r < kMaxRequests; ++r) {
    step.qo_indptr[r + 1] = between(-1000000, 1000000);  // of nobody
    step.kv_len[r] = between(-1000000, 1000000);
  }
  if (between(0, 29) == 0) {
    break_rows(random, step);
    bad = true;
  }
  return step;
}

class CudaDevicePlan : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      gpu_.emplace(Engine({.backend = "cuda"}));
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  std::optional<Engine> gpu_;
};

TEST_F(CudaDevicePlan, ReplaysOfAPlanWithItsLayersPlanAnew) {
  Model model(*gpu_);
  const GpuStream stream;
  std::mt19937 random(11);
  bool bad = false;
  model.write(random_step(random, bad));
  gpu_->status();
  const GpuGraph graph = stream.capture([&] {
    model.plan_on_device(stream.get());
    model.run(model.on_device, stream.get());
  });
  std::int32_t bad_steps = 0, senseless_steps = 0;
  for (int replay = 0; replay < 1000; ++replay) {
    const Step step = random_step(random, bad);
    model.write(step);
    model.forget_outputs();
    graph.launch(stream.get());
    const std::vector<char> got = model.outputs(stream.get());
    const std::vector<std::string> status = gpu_->status();
    ASSERT_EQ(status.size(), bad ? 1u : 0u) << "replay " << replay << (status.empty() ? "" : status[0]);
    bad_steps += bad;
    senseless_steps += !step.makes_sense;
    model.forget_outputs();
    model.plan_on_host(stream.get());
    model.run(model.on_host, stream.get());
    ASSERT_EQ(got == model.outputs(stream.get()), true) << "replay " << replay << " of " << step.num_requests << " requests";
  }
  EXPECT_GT(bad_steps, 100);
  EXPECT_GT(senseless_steps, 10);
}

TEST_F(CudaDevicePlan, TheSamePlanAsTheHosts) {
  Model model(*gpu_);
  std::mt19937 random(12);
  for (int i = 0; i < 100; ++i) {
    bool bad = false;
    model.write(random_step(random, bad));
    model.plan_on_host({});
    model.plan_on_device({});
    ASSERT_EQ(model.on_device.view().to_string(), model.on_host.view().to_string()) << i;
  }
  gpu_->status();
}

TEST_F(CudaDevicePlan, AttendPlansAndRuns) {
  Model model(*gpu_);
  std::mt19937 random(13);
  bool bad = false;
  model.write(random_step(random, bad));
  model.forget_outputs();
  model.attention().attend(model.on_device, model.device_batch(), model.args(0));
  for (std::size_t layer = 1; layer < kLayers; ++layer) {
    model.attention().run(model.on_device, model.args(layer));
  }
  const std::vector<char> got = model.outputs({});
  model.forget_outputs();
  model.plan_on_host({});
  model.run(model.on_host, {});
  EXPECT_TRUE(got == model.outputs({}));
  gpu_->status();
}

/// One launch a plan, captured or not: nothing is allocated, copied or waited for.
TEST_F(CudaDevicePlan, APlanIsOneLaunch) {
  const Driver& machine = driver();
  CountedDriver counted(machine);
  Model model(Engine({.backend = "cuda"}));
  const GpuStream stream;
  std::mt19937 random(14);
  bool bad = false;
  model.write(random_step(random, bad));
  model.plan_on_device(stream.get());
  counted.forget();
  model.plan_on_device(stream.get());
  EXPECT_EQ(counted.count("cuLaunchKernelEx"), 1) << counted.text();
  EXPECT_EQ(counted.total() - counted.count("cuLaunchKernelEx") - counted.count("cuCtxGetCurrent") - counted.count("cuStreamIsCapturing"),
            0)
      << counted.text();
  Engine(*gpu_).synchronise(stream.get());
}

}  // namespace
}  // namespace fovea::cuda
