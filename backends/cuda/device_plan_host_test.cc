// Plans from lengths in device memory, as the driver of a GPU that isn't there is asked for them: which program, how many blocks, nothing
// else.
#include <gtest/gtest.h>

#include <cstdlib>

#include "backends/cuda/kernels/plan/params.h"
#include "backends/cuda/testing/counted_driver.h"
#include "backends/cuda/testing/fake_driver.h"
#include "fovea/fovea.h"

namespace fovea::cuda {
namespace {

using testing::CountedDriver;
using testing::FakeDriver;
using testing::FakeLaunch;

constexpr std::int32_t kPageSize = 16, kRequests = 12;

/// A layer and a batch on a fake GPU.
class DevicePlanOnHost : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    setenv("FOVEA_NVRTC_PATH", FOVEA_FAKE_NVRTC, 1);
    setenv("FOVEA_CACHE_DIR", "", 1);
    setenv("FOVEA_LOG", "0", 1);
  }

  void prepare(std::size_t num_formats, Limits limits, const PrepareOptions& options = {}) {
    engine_.emplace(EngineOptions{.backend = "cuda"});
    attention_.emplace(engine_->prepare({.num_qo_heads = 8,
                                         .num_kv_heads = 2,
                                         .head_dim_qk = 128,
                                         .variant = "causal",
                                         .formats = std::vector<KvFormat>(num_formats, KvFormat::paged(kPageSize))},
                                        limits, options));
    plan_.emplace(attention_->new_plan());
    integers_.emplace(*engine_, std::size_t{1 << 16});
    const TensorView integers = view({kRequests + 1});
    tables_.assign(num_formats, {.page_indptr = integers, .page_indices = view({1000}), .kv_len = view({kRequests})});
  }
  TensorView view(std::initializer_list<std::int64_t> shape) const {
    return TensorView::contiguous(integers_->data(), DType::i32, shape, engine_->device());
  }
  /// The launches of a plan, and of nothing else that the driver was asked.
  std::vector<FakeLaunch> launches(std::span<const MaskValues> masks = {}) {
    fake_.driver().api.cuDevicePrimaryCtxRetain(&fake_.gpu().current, 0);  // as programs that use CUDA have it
    fake_.gpu().launches.clear();
    counted_.forget();
    attention_->plan(*plan_, {.qo_indptr = view({kRequests + 1}), .kv = tables_, .num_requests = view({1})}, {.masks = masks},
                     {reinterpret_cast<void*>(std::uintptr_t{4096})});
    const std::int64_t asked =
        counted_.count("cuCtxGetCurrent") + counted_.count("cuStreamIsCapturing") + counted_.count("cuLaunchKernelEx");
    EXPECT_EQ(counted_.total(), asked) << counted_.text();
    return fake_.gpu().launches;
  }

  FakeDriver fake_;
  CountedDriver counted_{fake_.driver()};
  std::optional<Engine> engine_;
  std::optional<Attention> attention_;
  std::optional<DeviceBuffer> integers_;
  std::optional<Plan> plan_;
  std::vector<KvTables> tables_;
};

TEST_F(DevicePlanOnHost, TheProgramIsTheBatchs) {
  const Limits few{.max_requests = 64, .max_query_tokens = 2048, .max_kv_tokens_per_request = 1 << 16};
  Limits many = few;
  many.max_requests = many.max_query_tokens = 1 << 14;
  many.max_query_tokens_per_request = 1;
  struct Case {
    std::size_t num_formats;
    Limits limits;
    Policy policy;
    const char* kernel;
    int writers;
  };
  const Case cases[] = {{1, few, Policy::throughput, "plan_small", 1},
                        {1, many, Policy::throughput, "plan_simple", 16},
                        {2, few, Policy::throughput, "plan", 1},
                        {1, few, Policy::batch_invariant, "plan", 1}};
  for (const Case& c : cases) {
    prepare(c.num_formats, c.limits, {.policy = c.policy});
    for (const int capturing : {0, 1}) {
      fake_.gpu().capture_status = capturing;
      const std::vector<FakeLaunch> all = launches();
      ASSERT_EQ(all.size(), 1u) << c.kernel;
      EXPECT_EQ(all[0].kernel, c.kernel);
      EXPECT_EQ(all[0].grid, 1 + c.writers) << c.kernel;
      EXPECT_EQ(all[0].threads, plan::kThreads);
      EXPECT_LE(all[0].shared_bytes, 232448);
      EXPECT_TRUE(all[0].programmatic);
    }
    fake_.gpu().capture_status = 0;
  }
}

/// Masks beyond what a launch takes go into another one, which writes no groups.
TEST_F(DevicePlanOnHost, AMaskGroupIsABlock) {
  prepare(1, {.max_requests = 64, .max_query_tokens = 64, .max_kv_tokens_per_request = 1 << 16, .max_mask_groups = kMaxMasksOfLaunch + 2});
  const std::vector<MaskValues> masks(static_cast<std::size_t>(kMaxMasksOfLaunch + 2));
  const std::vector<FakeLaunch> all = launches(masks);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].grid, kMaxMasksOfLaunch + 1);
  EXPECT_EQ(all[1].grid, 2);
}

}  // namespace
}  // namespace fovea::cuda
