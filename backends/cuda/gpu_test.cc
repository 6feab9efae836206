// Plans and runs on a GPU against the reference: what the driver is asked after prepare(), graphs whose plans change, streams in turn, and
// going on after errors. Skipped where there is no GPU; host_test.cc tests the host's part without one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <random>
#include <regex>

#include "backends/cuda/probe/probe.h"
#include "backends/cuda/testing/counted_driver.h"
#include "backends/cuda/testing/gpu_stream.h"
#include "fovea/fovea.h"

namespace fovea::cuda {
namespace {

using testing::CountedDriver;
using testing::GpuGraph;
using testing::GpuStream;

constexpr std::int64_t kQoHeads = 8, kKvHeads = 2, kDim = 64, kPageSize = 16, kPages = 600, kMaxRows = 512;

struct Lengths {
  int qo, kv;
};
using Batches = std::vector<std::vector<Lengths>>;

/// All forms of work: whole units, units that are cut, many rows, both at once, nothing at all.
const Batches kBatches{
    {{1, 40}, {1, 7}, {1, 160}}, {{1, 9000}}, {{300, 300}, {17, 400}}, {{1, 5000}, {200, 1000}, {1, 3}, {0, 9}}, {}, {{1, 1}}};

std::vector<std::uint16_t> bf16_values(std::size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<std::uint16_t> values(count);
  for (std::uint16_t& value : values) {
    const float number = normal(random);
    std::uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    value = static_cast<std::uint16_t>(bits >> 16);
  }
  return values;
}

/// One layer on an engine, with the same tensors on every engine: addresses stay, lengths change.
class Layer {
 public:
  explicit Layer(const Engine& engine)
      : engine_(engine),
        attention_(engine.prepare({.num_qo_heads = kQoHeads,
                                   .num_kv_heads = kKvHeads,
                                   .head_dim_qk = kDim,
                                   .o_dtype = DType::f32,
                                   .variant = "causal",
                                   .formats = {KvFormat::paged(kPageSize)}},
                                  {.max_requests = 8, .max_query_tokens = kMaxRows, .max_kv_tokens_per_request = 9600})),
        plan_(attention_.new_plan()) {
    std::mt19937 random(3);
    q_.emplace(moved(bf16_values(static_cast<std::size_t>(kMaxRows * kQoHeads * kDim), random)));
    k_.emplace(moved(bf16_values(static_cast<std::size_t>(kPages * kPageSize * kKvHeads * kDim), random)));
    v_.emplace(moved(bf16_values(static_cast<std::size_t>(kPages * kPageSize * kKvHeads * kDim), random)));
    std::vector<std::int32_t> pages(kPages);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      pages[i] = static_cast<std::int32_t>(i * 7 % pages.size());
    }
    pages_.emplace(moved(pages));
    o_.emplace(moved(std::vector<float>(static_cast<std::size_t>(kMaxRows * kQoHeads * kDim))));
    cache_.k = view(*k_, DType::bf16, {kPages, kPageSize, kKvHeads, kDim});
    cache_.v = view(*v_, DType::bf16, {kPages, kPageSize, kKvHeads, kDim});
  }

  void plan(const std::vector<Lengths>& requests, Stream stream = {}) {
    qo_indptr_.assign(1, 0);
    page_indptr_.assign(1, 0);
    kv_len_.clear();
    for (const Lengths& r : requests) {
      qo_indptr_.push_back(qo_indptr_.back() + r.qo);
      page_indptr_.push_back(page_indptr_.back() + (r.kv + static_cast<int>(kPageSize) - 1) / static_cast<int>(kPageSize));
      kv_len_.push_back(r.kv);
    }
    KvTables tables{.page_indptr = TensorView::of(page_indptr_), .page_indices = view(*pages_, DType::i32, {kPages})};
    tables.kv_len = TensorView::of(kv_len_);
    attention_.plan(plan_, {.qo_indptr = TensorView::of(qo_indptr_), .kv = {&tables, 1}}, {}, stream);
    num_rows_ = qo_indptr_.back();
  }
  /// Tensors of as many rows as there can be: a graph keeps them.
  void run(Stream stream = {}, bool kv_early = false) {
    attention_.run(plan_,
                   {.q = view(*q_, DType::bf16, {kMaxRows, kQoHeads, kDim}),
                    .kv = {&cache_, 1},
                    .o = view(*o_, DType::f32, {kMaxRows, kQoHeads, kDim}),
                    .kv_early = kv_early},
                   stream);
  }
  const DeviceBuffer& v() const { return *v_; }
  void write_v(const std::vector<std::uint16_t>& values) { v_->write(values.data(), v_->bytes()); }
  void forget_outputs() { o_->write(std::vector<float>(static_cast<std::size_t>(kMaxRows * kQoHeads * kDim), NAN).data(), o_->bytes()); }
  /// Of the planned rows, when the stream is done.
  std::vector<float> outputs(Stream stream = {}) {
    engine_.synchronise(stream);
    std::vector<float> values(static_cast<std::size_t>(num_rows_ * kQoHeads * kDim));
    o_->read(values.data(), values.size() * sizeof(float));
    return values;
  }

  const Attention& attention() const { return attention_; }

 private:
  template <class T>
  DeviceBuffer moved(const std::vector<T>& values) const {
    DeviceBuffer buffer(engine_, values.size() * sizeof(T));
    buffer.write(values.data(), buffer.bytes());
    return buffer;
  }
  TensorView view(const DeviceBuffer& buffer, DType dtype, std::initializer_list<std::int64_t> shape) const {
    return TensorView::contiguous(buffer.data(), dtype, shape, engine_.device());
  }

  Engine engine_;
  Attention attention_;
  Plan plan_;
  std::optional<DeviceBuffer> q_, k_, v_, pages_, o_;
  KvCache cache_;
  std::vector<std::int32_t> qo_indptr_, page_indptr_, kv_len_;
  std::int64_t num_rows_ = 0;  // of the last batch that was planned
};

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    try {
      gpu_.emplace(Engine({.backend = "cuda"}));
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  std::vector<float> expected(const std::vector<Lengths>& requests) {
    reference_.plan(requests);
    reference_.run();
    return reference_.outputs();
  }
  static void expect_close(const std::vector<float>& got, const std::vector<float>& expected, const std::string& where) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      // Weights are rounded to bf16; the longest batches average them out, the shortest have few.
      ASSERT_NEAR(got[i], expected[i], 0.02) << where << ", element " << i;
    }
  }

  std::optional<Engine> gpu_;
  Layer reference_{Engine({.backend = "reference"})};
};

/// Nothing after prepare() and new_plan() allocates, loads, compiles or waits: the driver's own calls say so.
TEST_F(Gpu, AfterPrepareOneCopyAPlanAndLaunchesARun) {
  const Driver& machine = driver();
  CountedDriver counted(machine);
  {
    Layer layer(Engine({.backend = "cuda"}));
    const GpuStream stream;
    layer.plan({{1, 9000}}, stream.get());
    layer.run(stream.get());
    for (int step = 0; step < 50; ++step) {
      Engine(*gpu_).synchronise(stream.get());  // so that no plan is ahead of the GPU
      counted.forget();
      layer.plan({{1, 9000 - step}, {1, 20}}, stream.get());
      layer.run(stream.get());
      layer.run(stream.get());
      // Tensor maps, where the GPU has a kernel that takes them, are the host's own arithmetic.
      ASSERT_EQ(std::regex_replace(counted.text(), std::regex(", [0-9]+ cuTensorMapEncodeTiled"), ""),
                "4 cuCtxGetCurrent, 1 cuMemcpyHtoDAsync, 3 cuStreamIsCapturing, 1 cuEventRecord, 1 cuEventQuery, "
                "4 cuGraphExecKernelNodeSetParams, 2 cuGraphLaunch");
    }
    Engine(*gpu_).synchronise(stream.get());
  }
}

/// A text's mask is asked for its range on the GPU: for a value that is new, without an allocation and without a wait for any stream.
TEST_F(Gpu, ANewMaskOfATextWaitsForNoStream) {
  const Driver& machine = driver();
  CountedDriver counted(machine);
  const Engine engine({.backend = "cuda"});
  const Variant text = Variant::from_source("near", R"(
struct Near : VariantBase {
  struct Mask {
    int32_t width;
    template <class I> FOVEA_FN auto keep(const Position<I>& at) const {
      return (at.kv_pos <= at.q_pos) & (at.q_pos - at.kv_pos < width);
    }
    FOVEA_FN constexpr KvRange range() const { return {.left = width - 1, .right = 0}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED_AT_LEAST(width, 1))
  };
  Mask m;
};)");
  const Attention attention =
      engine.prepare({.num_qo_heads = 2, .num_kv_heads = 2, .head_dim_qk = 64, .variant = text, .formats = {KvFormat::paged(16)}},
                     {.max_requests = 2, .max_query_tokens = 8, .max_kv_tokens_per_request = 1024});
  Plan plan = attention.new_plan();
  const std::vector<std::int32_t> qo_indptr{0, 1}, page_indptr{0, 40}, kv_len{640};
  const DeviceBuffer pages(engine, 40 * sizeof(std::int32_t));
  KvTables tables{.page_indptr = TensorView::of(page_indptr),
                  .page_indices = TensorView::contiguous(pages.data(), DType::i32, {40}, engine.device())};
  tables.kv_len = TensorView::of(kv_len);
  const GpuStream stream;
  for (std::int32_t width = 1; width < 640; width += 37) {
    const Value value("width", width);
    const MaskValues mask{.values = {&value, 1}};
    counted.forget();
    attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}}, {.masks = {&mask, 1}}, stream.get());
    for (const char* call : {"cuMemAlloc", "cuMemAllocHost", "cuMemcpyDtoH", "cuStreamSynchronize", "cuEventSynchronize"}) {
      EXPECT_EQ(counted.count(call), 0) << call << ", width " << width;
    }
    std::int32_t columns = 0;
    for (const PlannedWork& work : plan.view().work) {
      columns = std::max(columns, 640 - work.col_begin);
    }
    EXPECT_GE(columns, width) << "the range of the mask before";
    EXPECT_LT(columns, width + 128) << "tiles that nobody sees";
    engine.synchronise(stream.get());
  }
}

TEST_F(Gpu, AGraphRunsWhateverIsPlanned) {
  Layer layer(*gpu_);
  const GpuStream stream;
  layer.plan(kBatches[0], stream.get());
  const GpuGraph graph = stream.capture([&] { layer.run(stream.get()); });
  for (int round = 0; round < 2; ++round) {
    for (const std::vector<Lengths>& batch : kBatches) {
      layer.forget_outputs();
      layer.plan(batch, stream.get());
      graph.launch(stream.get());
      expect_close(layer.outputs(stream.get()), expected(batch), fmt::format("round {}, {} requests", round, batch.size()));
    }
  }
  layer.run(stream.get());  // and without the graph
  expect_close(layer.outputs(stream.get()), expected(kBatches.back()), "without the graph");
}

/// A kernel that lets the next one start at once, and writes V long after that.
class LateWriter {
 public:
  LateWriter(const Engine& engine, const Probe& probe, const std::vector<std::uint16_t>& values)
      : from_(engine, values.size() * 2), kernels_(probe, "late", kSource) {
    from_.write(values.data(), from_.bytes());
  }
  void launch(const DeviceBuffer& to) const {
    void *source = from_.data(), *target = to.data();
    auto pieces = static_cast<std::int64_t>(to.bytes() / 16);
    void* parameters[] = {&source, &target, &pieces};
    kernels_.launch("late_write", {.ctas = 8, .threads = 256}, parameters);
  }

 private:
  static constexpr const char* kSource = R"(#include "backends/cuda/device/ptx/grid.cuh"
extern "C" __global__ void late_write(const uint4* from, uint4* to, int64_t pieces) {
  fovea::ptx::wait_for_previous_grid();
  fovea::ptx::let_next_grid_start();
  const long long begin = clock64();
  while (clock64() - begin < 400000) {
  }
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < pieces; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
    to[i] = from[i];
  }
})";
  DeviceBuffer from_;
  ProbeKernels kernels_;
};

/// A run waits for what the kernel before it writes, and only the promise that nobody does lets it read K and V before.
TEST_F(Gpu, KvIsReadEarlyOnAPromiseAlone) {
  const std::vector<Lengths> batch{{1, 5000}, {1, 40}, {1, 300}};
  const Probe probe(0);
  Layer layer(*gpu_);
  std::mt19937 random(5);
  const std::vector<std::uint16_t> before = bf16_values(layer.v().bytes() / 2, random), after = bf16_values(layer.v().bytes() / 2, random);
  const LateWriter writer(*gpu_, probe, after);
  layer.plan(batch, probe.stream());
  const auto graph_of = [&](bool kv_early, bool writes) {
    return ProbeGraph(probe, [&] {
      if (writes) {
        writer.launch(layer.v());
      }
      layer.run(probe.stream(), kv_early);
    });
  };
  const ProbeGraph waits = graph_of(false, true), breaks = graph_of(true, true), keeps = graph_of(true, false);
  reference_.write_v(after);
  const std::vector<float> right = expected(batch);
  for (int round = 0; round < 20; ++round) {
    layer.write_v(before);
    layer.forget_outputs();
    waits.launch();
    expect_close(layer.outputs(probe.stream()), right, fmt::format("round {}: V is written by the kernel in front", round));
    layer.forget_outputs();
    keeps.launch();
    expect_close(layer.outputs(probe.stream()), right, fmt::format("round {}: nobody writes", round));
  }
  if (layer.attention().explain().find("attention_sm90_decode chosen") == std::string::npos) {
    GTEST_SKIP() << "no kernel here reads early";
  }
  layer.write_v(before);
  breaks.launch();
  const std::vector<float> early = layer.outputs(probe.stream());
  double difference = 0;
  for (std::size_t i = 0; i < early.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(early[i]) - static_cast<double>(right[i])));
  }
  EXPECT_GT(difference, 0.1) << "a promise that was broken did not show: nothing was read early";
}

TEST_F(Gpu, APlanIsRefusedInACapture) {
  Layer layer(*gpu_);
  const GpuStream stream;
  layer.plan(kBatches[0], stream.get());
  std::string text;
  const GpuGraph graph = stream.capture([&] {
    try {
      layer.plan(kBatches[1], stream.get());
    } catch (const InvalidArgument& error) {
      text = error.what();
    }
    layer.run(stream.get());
  });
  EXPECT_EQ(text.find("plan: the stream is being captured into a graph"), 0u) << text;
  layer.forget_outputs();
  graph.launch(stream.get());
  expect_close(layer.outputs(stream.get()), expected(kBatches[0]), "the refused plan changed nothing");
}

/// Steps alternate between streams, and nobody waits between them.
TEST_F(Gpu, AStreamContinuesWhatAnotherBegan) {
  Layer layer(*gpu_);
  const GpuStream streams[2];
  layer.forget_outputs();
  for (int step = 0; step < 40; ++step) {
    layer.plan(kBatches[static_cast<std::size_t>(step % 4)], streams[step % 2].get());
    layer.run(streams[(step / 2) % 2].get());
  }
  layer.plan(kBatches[3], streams[0].get());
  layer.run(streams[1].get());
  layer.run(Stream{});
  expect_close(layer.outputs(), expected(kBatches[3]), "after forty steps");
}

TEST_F(Gpu, AfterAnErrorTheNextCallWorks) {
  Layer layer(*gpu_);
  layer.plan(kBatches[3]);
  const auto error_of = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(error_of([&] { DeviceBuffer(*gpu_, std::size_t{1} << 46); }).find("allocate: cuda:0 has no 70368744177664 bytes left ("), 0u);
  EXPECT_EQ(error_of([&] {
              gpu_->prepare(
                      {.num_qo_heads = 32, .num_kv_heads = 32, .head_dim_qk = 256, .formats = {KvFormat::ragged(), KvFormat::ragged()}},
                      {.max_requests = 8, .max_query_tokens = 8 << 20})
                  .new_plan();
            }).find("new_plan: no room for "),
            0u);
  {
    CountedDriver counted(driver());
    counted.fail("cuGraphLaunch", 701);
    EXPECT_NE(error_of([&] { layer.run(); }).find("kernel attention_"), std::string::npos);
    counted.fail("cuModuleLoadData", 209);
    EXPECT_NE(error_of([&] { Layer another(*gpu_); }).find("CUDA_ERROR_NO_BINARY_FOR_GPU"), std::string::npos);
  }
  layer.forget_outputs();
  layer.run();
  expect_close(layer.outputs(), expected(kBatches[3]), "after the errors");
}

}  // namespace
}  // namespace fovea::cuda
