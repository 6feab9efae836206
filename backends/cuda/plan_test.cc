// The planner kernel on a GPU: bit for bit the host planner's plan. Skipped where there is no GPU.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>

#include "backends/cuda/memory.h"
#include "backends/cuda/planner.h"
#include "src/schedule/planner.h"
#include "src/schedule/planner_fixture.h"
#include "src/schedule/random_problem.h"

namespace fovea::cuda {
namespace {

using namespace fovea::test;

constexpr std::size_t kRoom = 64 << 20;

/// Memory on the GPU and its copy, given out from the front.
class Arena {
 public:
  Arena(const Gpu& gpu, std::size_t bytes) : gpu_(gpu), host_(bytes), device_(static_cast<std::byte*>(allocate(gpu, bytes))) {}
  ~Arena() { free_memory(gpu_, device_); }
  Arena(const Arena&) = delete;
  void clear() { used_ = 0; }
  /// A copy on the device, once send() is called.
  template <class T>
  T* add(const T* from, std::size_t count) {
    void* place = take(count * sizeof(T));
    std::memcpy(host_.data() + used_before_, from, count * sizeof(T));
    return static_cast<T*>(place);
  }
  void* take(std::size_t bytes) {
    used_before_ = used_;
    used_ = (used_ + bytes + 63) / 64 * 64;
    EXPECT_LE(used_, host_.size());
    return device_ + used_before_;
  }
  void send() { checked("cuMemcpyHtoD", driver().api.cuMemcpyHtoD(device_pointer(device_), host_.data(), used_), "arena"); }

 private:
  const Gpu& gpu_;
  std::vector<std::byte> host_;
  std::byte* device_;
  std::size_t used_ = 0, used_before_ = 0;
};

class CudaPlan : public testing::Test {
 protected:
  void SetUp() override {
    try {
      gpu_.emplace(0);
      scope_.emplace(gpu_->context());
      compiler_.emplace(gpu_->architecture(), driver().version);
      planner_.emplace(*gpu_, *compiler_);
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    arena_.emplace(*gpu_, kRoom);
    plan_memory_.emplace(*gpu_, kRoom);
    scratch_.emplace(*gpu_, kRoom);
  }

  /// The batch with its arrays on the GPU.
  BatchView on_device(const TestBatch& batch, BatchView view) {
    std::map<const void*, const std::int32_t*> moved;
    const auto move = [&](const std::vector<std::int32_t>& values) {
      if (!values.empty()) {
        moved[values.data()] = arena_->add(values.data(), values.size());
      }
    };
    const auto replace = [&](const std::int32_t*& pointer) { pointer = pointer == nullptr ? nullptr : moved.at(pointer); };
    for (const auto* values : {&batch.qo_indptr, &batch.kv_len, &batch.q_pos}) {
      move(*values);
    }
    for (const FormatArrays& f : batch.formats) {
      for (const auto* values : {&f.page_indptr, &f.last_page_len, &f.kv_len, &f.row_indptr, &f.row_indices, &f.kv_pos}) {
        move(*values);
      }
    }
    for (const std::int32_t** pointer : {&view.qo_indptr, &view.kv_len, &view.q_pos}) {
      replace(*pointer);
    }
    for (std::int32_t i = 0; i < view.num_formats; ++i) {
      FormatView& f = view.formats[i];
      for (const std::int32_t** pointer : {&f.page_indptr, &f.last_page_len, &f.kv_len, &f.row_indptr, &f.row_indices, &f.kv_pos}) {
        replace(*pointer);
      }
    }
    return view;
  }

  PlannerParams params_of(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch,
                          std::span<const KvRange> ranges) {
    plan_ = plan_memory_->take(static_cast<std::size_t>(capacity.plan_bytes));
    const PlanArraysMut arrays = lay_out_plan(capacity, plan_);
    PlannerParams params = planner_params(problem, choice, capacity, batch, arrays);
    for (std::size_t m = 0; m < ranges.size(); ++m) {
      add_mask(params, capacity, arrays, static_cast<std::int32_t>(m), ranges[m]);
    }
    PlanStatus none;
    params.status = arena_->add(&none, 1);
    params.scratch_bytes = planner_scratch_bytes(capacity);
    params.scratch = static_cast<char*>(scratch_->take(static_cast<std::size_t>(params.scratch_bytes) * ranges.size()));
    return params;
  }

  std::string compare(const RandomCase& c, std::span<const KvRange> ranges);

  std::optional<Gpu> gpu_;
  std::optional<ContextScope> scope_;
  std::optional<Compiler> compiler_;
  std::optional<Planner> planner_;
  std::optional<Arena> arena_, plan_memory_, scratch_;
  void* plan_ = nullptr;  // the last params_of()'s
};

/// Plans a case with these masks on the host and on the GPU; says where they differ.
std::string CudaPlan::compare(const RandomCase& c, std::span<const KvRange> ranges) {
  PlannedMemory host(c.problem, c.choice), device(c.problem, c.choice);
  BatchView batch = c.batch.view(c.problem);
  make_groups(c.problem, batch, host.arrays);
  for (std::size_t m = 0; m < ranges.size(); ++m) {
    schedule(c.problem, c.choice, host.capacity, batch, ranges[m], static_cast<std::int32_t>(m), host.arrays);
  }
  defer_checks(c.problem, batch);
  arena_->clear();
  plan_memory_->clear();
  scratch_->clear();
  batch = on_device(c.batch, batch);
  const PlannerParams params = params_of(c.problem, c.choice, host.capacity, batch, ranges);
  arena_->send();
  const std::size_t bytes = static_cast<std::size_t>(device.capacity.plan_bytes);
  checked("cuMemcpyHtoD", driver().api.cuMemcpyHtoD(device_pointer(plan_), device.base, bytes), "plan");
  planner_->plan(params, {});
  checked("cuMemcpyDtoH", driver().api.cuMemcpyDtoH(device.base, device_pointer(plan_), bytes), "plan");
  return difference(host, device);
}

TEST_F(CudaPlan, SameBytesAsTheHostPlanner) {
  constexpr std::uint64_t kCases = 100000;
  std::int32_t failed = 0;
  for (std::uint64_t seed = 0; seed < kCases && failed < 5; ++seed) {
    Random random(seed);
    RandomCase c = random_case(random);
    const KvRange masks[] = {c.range, KvRange{}, KvRange{.left = 30, .right = 0, .num_sink = 4, .exact = 1}};
    const std::size_t num_masks = seed % 8 == 0 ? std::size(masks) : 1;
    c.problem.limits.max_mask_groups = static_cast<std::int32_t>(num_masks);
    const std::string what = compare(c, std::span(masks).first(num_masks));
    EXPECT_EQ(what, "") << "seed " << seed;
    failed += !what.empty();
  }
}

// ---- Time, as the slope between graph nodes; run by hand (--gtest_also_run_disabled_tests) ---------------------------------------------

template <class Function>
Function symbol(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  return reinterpret_cast<Function>(dlsym(library, name));
}

class DISABLED_CudaPlanTime : public CudaPlan {
 protected:
  /// Microseconds of a replay of `nodes` plans.
  float replay(const PlannerParams& params, int nodes) {
    CUstream stream = nullptr;
    void *graph = nullptr, *exec = nullptr;
    CUevent begin = nullptr, end = nullptr;
    symbol<CUresult (*)(CUstream*, unsigned)>("cuStreamCreate")(&stream, kStreamNonBlocking);
    symbol<CUresult (*)(CUstream, int)>("cuStreamBeginCapture_v2")(stream, 2);
    for (int i = 0; i < nodes; ++i) {
      planner_->plan(params, Stream{stream});
    }
    symbol<CUresult (*)(CUstream, void**)>("cuStreamEndCapture")(stream, &graph);
    EXPECT_EQ(symbol<CUresult (*)(void**, void*, unsigned long long)>("cuGraphInstantiateWithFlags")(&exec, graph, 0), 0);
    driver().api.cuEventCreate(&begin, 0);
    driver().api.cuEventCreate(&end, 0);
    float best = 1e9f;
    const auto launch = symbol<CUresult (*)(void*, CUstream)>("cuGraphLaunch");
    for (int i = 0; i < 12; ++i) {
      driver().api.cuEventRecord(begin, stream);
      launch(exec, stream);
      driver().api.cuEventRecord(end, stream);
      EXPECT_EQ(driver().api.cuStreamSynchronize(stream), 0);
      float ms = 0;
      symbol<CUresult (*)(float*, CUevent, CUevent)>("cuEventElapsedTime")(&ms, begin, end);
      best = std::min(best, ms * 1000);
    }
    symbol<CUresult (*)(void*)>("cuGraphExecDestroy")(exec);
    symbol<CUresult (*)(void*)>("cuGraphDestroy")(graph);
    return best;
  }

  void time(const char* name, const Problem& problem, const Choice& choice, const TestBatch& batch, std::span<const KvRange> ranges) {
    PlannedMemory host(problem, choice), device(problem, choice);
    BatchView view = batch.view(problem);
    make_groups(problem, view, host.arrays);
    for (std::size_t m = 0; m < ranges.size(); ++m) {
      schedule(problem, choice, host.capacity, view, ranges[m], static_cast<std::int32_t>(m), host.arrays);
    }
    defer_checks(problem, view);
    arena_->clear();
    plan_memory_->clear();
    scratch_->clear();
    view = on_device(batch, view);
    const PlannerParams params = params_of(problem, choice, host.capacity, view, ranges);
    arena_->send();
    const std::size_t bytes = static_cast<std::size_t>(device.capacity.plan_bytes);
    checked("cuMemcpyHtoD", driver().api.cuMemcpyHtoD(device_pointer(plan_), device.base, bytes), "plan");
    const float few = replay(params, 10), many = replay(params, 110);
    checked("cuMemcpyDtoH", driver().api.cuMemcpyDtoH(device.base, device_pointer(plan_), bytes), "plan");
    EXPECT_EQ(difference(host, device), "") << name;
    std::printf("%-44s %7.2f us a node (%d items, %d merges, scratch %lld)\n", name, static_cast<double>(many - few) / 100,
                *host.arrays.mask_groups[0].schedules[choice.configs.size() - 1].num_items,
                *host.arrays.mask_groups[0].schedules[0].num_merges, static_cast<long long>(params.scratch_bytes));
  }
};

Problem llama(std::int32_t requests, std::int32_t tokens, std::int32_t tokens_of_request) {
  Problem problem;
  problem.group_size = 4;
  problem.spec.num_qo_heads = 32;
  problem.spec.num_kv_heads = 8;
  problem.spec.head_dim_qk = problem.spec.head_dim_vo = 128;
  problem.limits = {.max_requests = requests,
                    .max_query_tokens = tokens,
                    .max_query_tokens_per_request = tokens_of_request,
                    .max_kv_tokens_per_request = 131072,
                    .max_kv_tokens = std::int64_t{131072} * requests,
                    .max_row_groups = requests,
                    .max_mask_groups = 2};
  return problem;
}

const CostTable kCost{.fixed = 32, .per_tile = 16, .per_partial = 16};
const Choice kBoth{.kernel = "test",
                   .configs = {{.tile_q = 16, .tile_kv = 64, .form = PlanForm::ranges, .cost = kCost},
                               {.tile_q = 64, .tile_kv = 64, .form = PlanForm::list, .cost = kCost}},
                   .num_workers = 264};

TEST_F(DISABLED_CudaPlanTime, Slope) {
  const std::vector<KvRange> masks{{.right = 0, .exact = 1}, {.left = 1024, .right = 0, .exact = 1}};
  Random random(3);
  for (const std::int32_t n : {1, 16, 64, 256, 1024, 4096}) {
    std::vector<Lengths> requests;
    for (std::int32_t r = 0; r < n; ++r) {
      requests.push_back({1, random.between(1, 8192)});
    }
    const Problem problem = llama(n, n, 1);
    const TestBatch batch = paged_batch(problem, requests);
    time(fmt::format("decode of {} requests", n).c_str(), problem, kBoth, batch, {masks.data(), 1});
    time(fmt::format("decode of {} requests, two masks", n).c_str(), problem, kBoth, batch, masks);
  }
  Choice list = kBoth;
  list.configs.erase(list.configs.begin());
  for (const std::int32_t n : {1, 8, 32, 64}) {
    std::vector<Lengths> requests;
    for (std::int32_t r = 0; r < n; ++r) {
      requests.push_back({128, random.between(128, 4096)});
    }
    const Problem problem = llama(n, n * 128, 128);
    time(fmt::format("prefill of {} requests of 128 tokens", n).c_str(), problem, list, paged_batch(problem, requests), {masks.data(), 1});
  }
  std::vector<Lengths> mixed;
  for (std::int32_t r = 0; r < 64; ++r) {
    mixed.push_back({r < 4 ? 512 : 1, random.between(512, 8192)});
  }
  const Problem problem = llama(64, 4096, 2048);
  time("mixed: 4 x 512 tokens and 60 decodes", problem, kBoth, paged_batch(problem, mixed), {masks.data(), 1});
}

}  // namespace
}  // namespace fovea::cuda
