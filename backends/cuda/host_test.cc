// What the host does for a GPU, without one: which kernels a run launches, that nothing else is asked of the driver after prepare(), what a
// device gets of a plan, graphs, and errors after which everything goes on. The driver and NVRTC are fake.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>

#include "backends/cuda/testing/counted_driver.h"
#include "backends/cuda/testing/fake_driver.h"
#include "fovea/compile.h"
#include "fovea/fovea.h"
#include "src/attention.h"

namespace fovea::cuda {
namespace {

using testing::CountedDriver;
using testing::FakeDriver;
using testing::FakeLaunch;

constexpr std::int64_t kQoHeads = 8, kKvHeads = 2, kDim = 128, kPageSize = 16, kPages = 4096;

struct Lengths {
  int qo, kv;
};

/// A machine with one fake GPU, and layers on it.
class Host : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    setenv("FOVEA_NVRTC_PATH", FOVEA_FAKE_NVRTC, 1);
    setenv("FOVEA_CACHE_DIR", "", 1);
    setenv("FOVEA_LOG", "0", 1);
  }

  static AttentionSpec spec(std::size_t num_formats = 1) {
    return {.num_qo_heads = kQoHeads,
            .num_kv_heads = kKvHeads,
            .head_dim_qk = kDim,
            .variant = "causal",
            .formats = std::vector<KvFormat>(num_formats, KvFormat::paged(kPageSize))};
  }
  static constexpr Limits kLimits{.max_requests = 64, .max_query_tokens = 2048, .max_kv_tokens_per_request = 1 << 16};

  std::string error_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  FakeDriver fake_;
  CountedDriver counted_{fake_.driver()};
};

/// One layer with tensors on the fake GPU, planned for given lengths.
class Layer {
 public:
  explicit Layer(const Engine& engine, const AttentionSpec& spec, const Limits& limits, const PrepareOptions& options = {})
      : engine_(engine),
        attention_(engine.prepare(spec, limits, options)),
        plan_(attention_.new_plan()),
        q_(engine, static_cast<std::size_t>(limits.max_query_tokens * kQoHeads * kDim * 2)),
        o_(engine, q_.bytes()),
        kv_(engine, static_cast<std::size_t>(kPages * kPageSize * kKvHeads * kDim * 2)),
        table_(engine, kPages * sizeof(std::int32_t)),
        num_formats_(spec.formats.size()) {}

  /// row_indptr: of the groups of every format, where they are not the requests.
  void plan(const std::vector<Lengths>& requests, Stream stream = {}, const std::vector<std::int32_t>& row_indptr = {}) {
    qo_indptr_.assign(1, 0);
    page_indptr_.assign(1, 0);
    kv_len_.clear();
    for (const Lengths& r : requests) {
      qo_indptr_.push_back(qo_indptr_.back() + r.qo);
      page_indptr_.push_back(page_indptr_.back() + (r.kv + static_cast<int>(kPageSize) - 1) / static_cast<int>(kPageSize));
      kv_len_.push_back(r.kv);
    }
    KvTables tables{.page_indptr = TensorView::of(page_indptr_),
                    .page_indices = TensorView::contiguous(table_.data(), DType::i32, {kPages}, engine_.device())};
    tables.kv_len = TensorView::of(kv_len_);
    tables.row_indptr = row_indptr.empty() ? TensorView{} : TensorView::of(row_indptr);
    const std::vector<KvTables> all(num_formats_, tables);
    attention_.plan(plan_, {.qo_indptr = TensorView::of(qo_indptr_), .kv = all}, {}, stream);
  }

  RunArgs args() {
    const TensorView cache = TensorView::contiguous(kv_.data(), DType::bf16, {kPages, kPageSize, kKvHeads, kDim}, engine_.device());
    caches_.assign(num_formats_, {.k = cache, .v = cache});
    const std::int64_t rows = qo_indptr_.back();
    return {.q = TensorView::contiguous(q_.data(), DType::bf16, {rows, kQoHeads, kDim}, engine_.device()),
            .kv = caches_,
            .o = TensorView::contiguous(o_.data(), DType::bf16, {rows, kQoHeads, kDim}, engine_.device())};
  }
  void run(Stream stream = {}) { attention_.run(plan_, args(), stream); }

  const Attention& attention() const { return attention_; }
  Plan& plan() { return plan_; }

 private:
  Engine engine_;
  Attention attention_;
  Plan plan_;
  DeviceBuffer q_, o_, kv_, table_;
  std::size_t num_formats_;
  std::vector<std::int32_t> qo_indptr_, page_indptr_, kv_len_;
  std::vector<KvCache> caches_;
};

Stream stream_of(int number) { return {reinterpret_cast<void*>(std::uintptr_t{4096} * static_cast<unsigned>(number))}; }

std::string kernels_of(const std::vector<FakeLaunch>& launches) {
  std::string text;
  for (const FakeLaunch& launch : launches) {
    text += fmt::format("{}{}", text.empty() ? "" : " ", launch.kernel);
  }
  return text;
}

// ---- Launches
// -----------------------------------------------------------------------------------------------------------------------------

TEST_F(Host, LaunchesWhatThePlanHasWorkFor) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  struct Case {
    std::vector<Lengths> requests;
    std::string kernels;
  };
  const std::vector<Lengths> equal(33, {1, 64});  // 66 units of one tile: nothing to cut
  const Case cases[] = {
      {equal, "attention"},
      {{{1, 30000}}, "attention merge_partials"},
      {{{500, 500}}, "attention"},
      {{{1, 20}, {400, 400}}, "attention attention"},
      {{{1, 30000}, {400, 400}}, "attention attention merge_partials"},
      {{}, ""},
      {{{0, 40}, {0, 0}}, ""},
  };
  for (const Case& c : cases) {
    layer.plan(c.requests);
    fake_.gpu().launches.clear();
    layer.run();
    EXPECT_EQ(kernels_of(fake_.gpu().launches), c.kernels) << c.requests.size() << " requests";
    const PlanView view = layer.plan().view();
    for (const FakeLaunch& launch : fake_.gpu().launches) {
      EXPECT_TRUE(launch.programmatic);
      EXPECT_GT(launch.grid, 0);
      if (launch.kernel == "merge_partials") {
        EXPECT_LE(launch.grid, 128 * view.num_merges);  // of 128 rows at most
      }
    }
  }
}

TEST_F(Host, SeveralFormatsAreComposed) {
  Layer layer(Engine({.backend = "cuda"}), spec(2), kLimits);
  layer.plan({{1, 64}, {1, 64}});
  layer.run();
  EXPECT_EQ(kernels_of(fake_.gpu().launches), "attention compose_levels");
}

/// What kernels read on the device is what the host planned, whatever was there before.
TEST_F(Host, TheDeviceGetsAllThatAPlanFills) {
  std::mt19937 random(5);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  for (const Policy policy : {Policy::throughput, Policy::batch_invariant}) {
    Layer layer(Engine({.backend = "cuda"}), spec(), kLimits, {.policy = policy});
    for (int i = 0; i < 40; ++i) {
      std::vector<Lengths> requests(static_cast<std::size_t>(1 + below(12)));
      for (Lengths& r : requests) {
        r = {below(3) == 0 ? below(150) : 1, below(4) == 0 ? below(20000) : below(300)};
        r.kv = std::max(r.kv, r.qo);
      }
      fake_.gpu().fill_memory(0x7f);
      layer.plan(requests);
      fake_.gpu().launches.clear();
      layer.run();
      ASSERT_FALSE(fake_.gpu().launches.empty());
      const KernelParams& device = fake_.gpu().launches[0].params;
      const Plan::Impl& plan = *layer.plan().impl();
      const PlanView seen = describe_plan(device, plan.attention->capacity, plan.num_requests, plan.arrays.mask_groups[0].num_slots[0]);
      EXPECT_EQ(seen.to_string(), layer.plan().view().to_string());
      for (std::size_t c = 0; c < plan.attention->selection.choice.configs.size(); ++c) {
        const ScheduleArrays& host = plan.arrays.mask_groups[0].schedules[c];
        ASSERT_EQ(*device.plan.schedules[c].num_merges, *host.num_merges);
        EXPECT_EQ(std::memcmp(device.plan.schedules[c].merges, host.merges, sizeof(MergeItem) * static_cast<std::size_t>(*host.num_merges)),
                  0);
      }
      EXPECT_EQ(std::memcmp(device.plan.requests, plan.arrays.requests, sizeof(Request) * requests.size()), 0);
      EXPECT_EQ(std::memcmp(device.plan.groups, plan.arrays.groups, sizeof(RowGroup) * static_cast<std::size_t>(*plan.arrays.num_groups)),
                0);
    }
  }
}

// ---- What the driver is asked
// ---------------------------------------------------------------------------------------------------------------

TEST_F(Host, AfterPrepareOneCopyAPlanAndLaunchesARun) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 30000}}, stream_of(1));
  layer.run(stream_of(1));
  fake_.driver().api.cuDevicePrimaryCtxRetain(&fake_.gpu().current, 0);  // as programs that use CUDA have it
  counted_.forget();
  for (int step = 0; step < 100; ++step) {
    layer.plan({{1, 30000 + step}, {1, 200}}, stream_of(1));
    for (int i = 0; i < 10; ++i) {
      layer.run(stream_of(1));
    }
  }
  // Nothing is allocated, compiled, loaded or waited for.
  EXPECT_EQ(counted_.text(),
            "1200 cuCtxGetCurrent, 100 cuMemcpyHtoDAsync, 1100 cuStreamIsCapturing, 100 cuEventRecord, 100 cuEventQuery, "
            "2000 cuTensorMapEncodeTiled, 2000 cuGraphExecKernelNodeSetParams, 1000 cuGraphLaunch");
}

TEST_F(Host, OnlyAHostThatIsThreePlansAheadWaits) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 100}});
  counted_.forget();
  layer.plan({{1, 100}});
  EXPECT_EQ(counted_.count("cuEventSynchronize"), 0);
  fake_.gpu().events_are_done = false;
  layer.plan({{1, 100}});
  EXPECT_EQ(counted_.count("cuEventSynchronize"), 1);
}

TEST_F(Host, AnotherStreamWaitsForTheFirst) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 100}}, stream_of(1));
  layer.run(stream_of(1));
  EXPECT_EQ(counted_.count("cuStreamWaitEvent"), 0);
  layer.run(stream_of(2));
  layer.run(stream_of(2));
  EXPECT_EQ(counted_.count("cuStreamWaitEvent"), 1);
  layer.plan({{1, 100}}, stream_of(1));
  EXPECT_EQ(counted_.count("cuStreamWaitEvent"), 2);
}

TEST_F(Host, EverythingIsGivenBack) {
  {
    Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
    layer.plan({{1, 100}});
    layer.run();
    EXPECT_GT(fake_.gpu().num_modules, 0);
  }
  const testing::FakeGpu& gpu = fake_.gpu();
  EXPECT_EQ(gpu.allocated_bytes, 0u);
  EXPECT_EQ(gpu.num_host_allocations + gpu.num_modules + gpu.num_events + gpu.num_streams + gpu.num_graphs + gpu.num_contexts, 0);
  EXPECT_EQ(gpu.current, nullptr) << "a context was left current";
}

// ---- Graphs
// -------------------------------------------------------------------------------------------------------------------------------

TEST_F(Host, AGraphLaunchesAllThatAnyPlanMayNeed) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 20}}, stream_of(1));
  counted_.forget();
  fake_.gpu().capture_status = 1;
  layer.run(stream_of(2));
  EXPECT_EQ(kernels_of(fake_.gpu().launches), "attention attention merge_partials");
  EXPECT_EQ(counted_.count("cuStreamWaitEvent") + counted_.count("cuEventRecord"), 0) << "a graph may not wait for what is outside it";
  EXPECT_EQ(error_of([&] {
              layer.plan({{1, 20}}, stream_of(2));
            }),
            "plan: the stream is being captured into a graph, which would repeat this plan whatever the lengths are by then; call plan() "
            "before each replay instead, outside the graph (docs/cuda-graphs.md)");
  EXPECT_EQ(layer.plan().generation(), 1u);
  layer.run();  // the legacy stream can't be captured, nor asked
  EXPECT_EQ(counted_.count("cuStreamIsCapturing"), 2);
}

constexpr const char* kSharedRowsRefused =
    "plan: row_indptr is given, but a run of this plan was captured when its batch had none; such a run has no kernel for rows that "
    "requests share: plan a batch with row_indptr before the capture, or take another Plan";

// Where a request has one query token no group has many rows, unless requests share them.
TEST_F(Host, AGraphOfDecodingHasNoKernelForManyRows) {
  Layer layer(Engine({.backend = "cuda"}), spec(),
              {.max_requests = 64, .max_query_tokens = 64, .max_query_tokens_per_request = 1, .max_kv_tokens_per_request = 1 << 16});
  layer.plan({{1, 20}, {1, 30}});
  fake_.gpu().capture_status = 1;
  layer.run(stream_of(1));
  EXPECT_EQ(kernels_of(fake_.gpu().launches), "attention merge_partials");
  fake_.gpu().capture_status = 0;
  EXPECT_EQ(error_of([&] { layer.plan({{1, 20}, {1, 20}}, {}, {0, 1, 2}); }), kSharedRowsRefused);
  layer.plan({{1, 40}});
}

TEST_F(Host, AGraphOfSharedRowsServesAllPlans) {
  Layer layer(Engine({.backend = "cuda"}), spec(),
              {.max_requests = 64, .max_query_tokens = 64, .max_query_tokens_per_request = 1, .max_kv_tokens_per_request = 1 << 16});
  layer.plan({{1, 20}, {1, 20}}, {}, {0, 1, 2});
  fake_.gpu().capture_status = 1;
  layer.run(stream_of(1));
  EXPECT_EQ(kernels_of(fake_.gpu().launches), "attention attention merge_partials");
  fake_.gpu().capture_status = 0;
  layer.plan({{1, 20}});
  layer.run(stream_of(1));
  layer.plan({{1, 20}, {1, 20}}, {}, {0, 1, 2});
}

// ---- Errors: each says what, and the next call works
// -----------------------------------------------------------------------------------------

TEST_F(Host, NoGpu) {
  fake_.gpu().num_gpus = 0;
  EXPECT_EQ(error_of([] { Engine({.backend = "cuda"}); }),
            "engine: the CUDA driver (a fake driver) sees no GPU; is one there, and does CUDA_VISIBLE_DEVICES name it?");
  fake_.gpu().num_gpus = 2;
  EXPECT_EQ(error_of([] { Engine({.backend = "cuda", .device_id = 2}); }), "engine: device_id = 2; the CUDA driver sees GPUs 0 to 1");
}

TEST_F(Host, AGpuThatIsTooOld) {
  fake_.gpu().major = 7, fake_.gpu().minor = 5;
  EXPECT_EQ(error_of([] { Engine({.backend = "cuda"}); }),
            "engine: cuda:0 (Fake GPU) is an sm_75; kernels need sm_80 or newer (A100, RTX 30)");
}

TEST_F(Host, NoCompiler) {
  setenv("FOVEA_NVRTC_PATH", "/nowhere", 1);
  const Engine engine({.backend = "cuda"});
  AttentionSpec not_shipped = spec();
  not_shipped.head_dim_qk = 96;
  EXPECT_NE(error_of([&] { engine.prepare(not_shipped, kLimits); }).find("compile: no usable NVRTC is here"), std::string::npos);
  setenv("FOVEA_NVRTC_PATH", FOVEA_FAKE_NVRTC, 1);
}

TEST_F(Host, CubinsOfAnOlderMinorVersionServe) {
  std::string folder = ::testing::TempDir() + "fovea_host_test_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  setenv("FOVEA_CACHE_DIR", folder.c_str(), 1);
  AttentionSpec not_shipped = spec();
  not_shipped.head_dim_qk = 96;
  compile_ahead("sm_86", not_shipped);
  setenv("FOVEA_NVRTC_PATH", "/nowhere", 1);
  fake_.gpu().max_shared_bytes = 101376;
  const auto error_on = [&](int major, int minor) {
    fake_.gpu().major = major, fake_.gpu().minor = minor;
    return error_of([&] { Engine({.backend = "cuda"}).prepare(not_shipped, kLimits); });
  };
  EXPECT_EQ(error_on(8, 6), "no error");
  EXPECT_EQ(error_on(8, 9), "no error");
  EXPECT_NE(error_on(8, 0).find("compile: no usable NVRTC is here"), std::string::npos) << "newer code than the GPU";
  EXPECT_NE(error_on(9, 0).find("compile: no usable NVRTC is here"), std::string::npos) << "another major version";
  setenv("FOVEA_NVRTC_PATH", FOVEA_FAKE_NVRTC, 1);
  setenv("FOVEA_CACHE_DIR", "", 1);
  std::filesystem::remove_all(folder);
}

TEST_F(Host, ACubinThatIsNotForThisGpu) {
  const Engine engine({.backend = "cuda"});
  counted_.fail("cuModuleLoadData", 209);
  const std::string text = error_of([&] { engine.prepare(spec(), kLimits); });
  EXPECT_EQ(text.find("cuModuleLoadData: CUDA_ERROR_NO_BINARY_FOR_GPU (no kernel image is available for execution on the device): "), 0u)
      << text;
  EXPECT_NE(text.find("on cuda:0 (sm_90a, driver of CUDA 13.0)"), std::string::npos) << text;
  engine.prepare(spec(), kLimits);
}

TEST_F(Host, NoMemoryForAPlan) {
  const Engine engine({.backend = "cuda"});
  const Attention attention = engine.prepare(spec(), kLimits);
  fake_.gpu().memory_bytes = 4 << 20;
  const std::string text = error_of([&] { attention.new_plan(); });
  EXPECT_EQ(text.find("new_plan: no room for "), 0u) << text;
  EXPECT_NE(text.find("(allocate: cuda:0 has no "), std::string::npos) << text;
  EXPECT_NE(text.find("lower them, or PrepareOptions::max_workspace_bytes"), std::string::npos) << text;
  EXPECT_EQ(fake_.gpu().allocated_bytes, 0u) << "what a plan got before it failed is given back";
  EXPECT_EQ(fake_.gpu().num_host_allocations + fake_.gpu().num_events, 0);
  fake_.gpu().memory_bytes = 1 << 30;
  attention.new_plan();
}

TEST_F(Host, ALaunchThatFails) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  const std::string why = ": CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (too many resources requested for launch): kernel attention_";
  const std::string merges = "kernel merge_partials, grid 256 x 128 threads, 0 bytes of shared memory";
  layer.plan({{1, 30000}});
  counted_.fail("cuGraphLaunch", 701);
  const std::string text = error_of([&] { layer.run(); });
  EXPECT_EQ(text.find("cuGraphLaunch" + why), 0u) << text;
  EXPECT_NE(text.find(", grid "), std::string::npos) << text;
  EXPECT_NE(text.find("; " + merges + "; on cuda:0"), std::string::npos) << text;
  EXPECT_EQ(fake_.gpu().current, nullptr);
  counted_.fail("cuGraphExecKernelNodeSetParams", 701, 1);
  EXPECT_NE(error_of([&] { layer.run(); }).find(merges), std::string::npos);
  fake_.gpu().launches.clear();
  layer.run();
  EXPECT_EQ(kernels_of(fake_.gpu().launches), "attention merge_partials");
}

/// Where graphs can't be made, kernels are launched one by one.
TEST_F(Host, WithoutGraphs) {
  const Engine engine({.backend = "cuda"});
  counted_.fail("cuGraphInstantiate", 1);
  Layer layer(engine, spec(), kLimits);
  counted_.forget();
  layer.plan({{1, 30000}});
  layer.run();
  EXPECT_EQ(kernels_of(fake_.gpu().launches), "attention merge_partials");
  EXPECT_EQ(counted_.count("cuLaunchKernelEx"), 2);
  counted_.fail("cuLaunchKernelEx", 701, 1);
  EXPECT_EQ(
      error_of([&] { layer.run(); }),
      "cuLaunchKernelEx: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES (too many resources requested for launch): kernel merge_partials, grid 256 x "
      "128 threads, 0 bytes of shared memory, on cuda:0");
}

/// Programmatic dependent launch is of sm_90 and newer.
TEST_F(Host, AnOlderGpu) {
  fake_.gpu().major = 8;
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 30000}});
  layer.run();
  ASSERT_EQ(kernels_of(fake_.gpu().launches), "attention merge_partials");
  EXPECT_FALSE(fake_.gpu().launches[0].programmatic || fake_.gpu().launches[1].programmatic);
}

TEST_F(Host, ACopyThatFailsLeavesAPlanThatSaysSo) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 300}});
  counted_.fail("cuMemcpyHtoDAsync", 2);
  EXPECT_EQ(error_of([&] { layer.plan({{1, 500}}); }).find("cuMemcpyHtoDAsync: CUDA_ERROR_OUT_OF_MEMORY (out of memory): plan: "), 0u);
  EXPECT_EQ(error_of([&] { layer.run(); }), "run: the plan has not been planned; call Attention::plan() first");
  layer.plan({{1, 500}});
  layer.run();
}

TEST_F(Host, TensorsOnAnotherDevice) {
  fake_.gpu().num_gpus = 2;
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 300}});
  RunArgs args = layer.args();
  args.q.device = {};
  EXPECT_EQ(error_of([&] { layer.attention().run(layer.plan(), args); }), "run: q is on cpu but the engine runs on cuda:0");
  args = layer.args();
  args.o.device = {DeviceType::cuda, 1};
  EXPECT_EQ(error_of([&] { layer.attention().run(layer.plan(), args); }), "run: o is on cuda:1 but the engine runs on cuda:0");
  EXPECT_TRUE(fake_.gpu().launches.empty());
  layer.run();
  EXPECT_FALSE(fake_.gpu().launches.empty());
}

/// What FOVEA_CHECK_RUNS adds: views may be wrong about where their memory is.
TEST_F(Host, MemoryThatIsNotWhereItsViewSays) {
  Layer layer(Engine({.backend = "cuda"}), spec(), kLimits);
  layer.plan({{1, 300}});
  const Plan::Impl& plan = *layer.plan().impl();
  const auto check = [&](const RunArgs& args) {
    return error_of([&] { check_memory_of_run(*plan.attention->backend, plan.batch, args); });
  };
  EXPECT_EQ(check(layer.args()), "no error");
  RunArgs args = layer.args();
  std::uint16_t on_host[8] = {};
  args.q.data = on_host;
  EXPECT_EQ(check(args),
            "run: q is said to be on cuda:0, but its data is host memory that CUDA does not know; a device reads its own memory");
  fake_.gpu().owner_of_memory = 1;
  args = layer.args();
  args.q = args.o = {};
  EXPECT_EQ(check(args), "run: kv[0].k is said to be on cuda:0, but its data is memory of cuda:1; a device reads its own memory");
}

// ---- The tools
// ----------------------------------------------------------------------------------------------------------------------------

TEST_F(Host, CallsAreCountedAndFail) {
  const Engine engine({.backend = "cuda"});
  counted_.forget();
  const DeviceBuffer a(engine, 8);
  EXPECT_EQ(counted_.text(), "1 cuCtxGetCurrent, 2 cuCtxSetCurrent, 1 cuMemAlloc");
  counted_.fail("cuMemAlloc", 2, 1);
  const DeviceBuffer b(engine, 8);
  EXPECT_EQ(error_of([&] { DeviceBuffer(engine, 8); }), "allocate: cuda:0 has no 8 bytes left (1023 of 1024 MiB are free)");
  const DeviceBuffer c(engine, 8);
  EXPECT_EQ(counted_.count("cuMemAlloc"), 4);
}

}  // namespace
}  // namespace fovea::cuda
