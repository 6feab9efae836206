// The three verbs together: what a plan is tied to, masks, page checks, and that a refused call leaves everything as it was.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "fovea/device_buffer.h"
#include "fovea/fovea.h"

namespace fovea {
namespace {

/// Two decode requests of 5 and 9 tokens on pages of 4, one kv head of two query heads, in float.
struct Fixture {
  explicit Fixture(const char* variant = "causal", const char* backend = "cpu", std::int32_t max_mask_groups = 1)
      : engine({.backend = backend}),
        attention(engine.prepare({.num_qo_heads = 2,
                                  .num_kv_heads = 1,
                                  .head_dim_qk = 8,
                                  .q_dtype = DType::f32,
                                  .k_dtype = DType::f32,
                                  .v_dtype = DType::f32,
                                  .o_dtype = DType::f32,
                                  .variant = variant,
                                  .formats = {KvFormat::paged(4)}},
                                 {.max_requests = 4, .max_kv_tokens_per_request = 64, .max_mask_groups = max_mask_groups})),
        plan(attention.new_plan()) {
    for (std::size_t i = 0; i < k.size(); ++i) {
      k[i] = std::sin(static_cast<float>(i));
      v[i] = std::cos(static_cast<float>(i));
    }
    for (std::size_t i = 0; i < q.size(); ++i) {
      q[i] = std::sin(0.5f * static_cast<float>(i));
    }
  }

  void make_plan(std::span<const MaskValues> masks = {}) {
    const KvTables tables = KvTables::csr(TensorView::of(page_indptr), TensorView::of(pages), TensorView::of(last_page_len));
    attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}}, {.masks = masks});
  }

  void run(const std::function<void(RunArgs&)>& change = [](RunArgs&) {}) {
    const KvCache cache{.k = TensorView::contiguous(k.data(), DType::f32, {6, 4, 1, 8}),
                        .v = TensorView::contiguous(v.data(), DType::f32, {6, 4, 1, 8})};
    RunArgs args{.q = TensorView::contiguous(q.data(), DType::f32, {2, 2, 8}),
                 .kv = {&cache, 1},
                 .o = TensorView::contiguous(o.data(), DType::f32, {2, 2, 8})};
    change(args);
    attention.run(plan, args);
  }

  std::vector<std::int32_t> qo_indptr = {0, 1, 2};
  std::vector<std::int32_t> page_indptr = {0, 2, 5};
  std::vector<std::int32_t> pages = {3, 1, 0, 5, 2};
  std::vector<std::int32_t> last_page_len = {1, 1};
  std::vector<float> k = std::vector<float>(6 * 4 * 8), v = k, q = std::vector<float>(2 * 2 * 8), o = std::vector<float>(2 * 2 * 8, -7.0f);
  Engine engine;
  Attention attention;
  Plan plan;
};

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Engine, CpuAgreesWithReference) {
  Fixture cpu("causal", "cpu");
  Fixture reference("causal", "reference");
  for (Fixture* f : {&cpu, &reference}) {
    f->make_plan();
    f->run();
  }
  for (std::size_t i = 0; i < cpu.o.size(); ++i) {
    EXPECT_NEAR(cpu.o[i], reference.o[i], 1e-6f) << i;
  }
}

TEST(Engine, EightBitQueries) {
  for (const DType dtype : {DType::e4m3, DType::e5m2}) {
    std::vector<std::vector<float>> outputs;
    for (const char* backend : {"cpu", "reference"}) {
      Fixture f("causal", backend);
      AttentionSpec spec = f.attention.spec();
      spec.q_dtype = dtype;
      f.attention = f.engine.prepare(spec, f.attention.limits());
      f.plan = f.attention.new_plan();
      f.make_plan();
      std::vector<std::uint8_t> bytes(f.q.size());
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::uint8_t>((i * 37) % 64 + (i % 2) * 128);  // both signs, subnormals to a few units
      }
      f.run([&](RunArgs& args) {
        args.q = TensorView::contiguous(bytes.data(), dtype, {2, 2, 8});
        args.q_scale = 0.5f;
      });
      outputs.push_back(f.o);
    }
    for (std::size_t i = 0; i < outputs[0].size(); ++i) {
      EXPECT_NEAR(outputs[0][i], outputs[1][i], 1e-6f) << name_of(dtype) << " " << i;
    }
  }
}

TEST(Engine, PlanBelongsToItsAttention) {
  Fixture a;
  Fixture b;
  b.make_plan();
  EXPECT_NE(message_of([&] { a.attention.run(b.plan, {}); }).find("the plan belongs to another Attention"), std::string::npos);
  EXPECT_NE(message_of([&] { a.attention.run(Plan(), {}); }).find("the plan is empty"), std::string::npos);
  EXPECT_NE(message_of([&] { a.run(); }).find("has not been planned"), std::string::npos);
  a.make_plan();
  a.run();
}

TEST(Engine, WhatWasMovedFromStaysUsable) {
  Fixture f;
  Attention attention = std::move(f.attention);
  Engine engine = std::move(f.engine);
  f.make_plan();
  f.run();
  EXPECT_NE(f.o[0], -7.0f);
  EXPECT_EQ(f.engine.describe(), engine.describe());
  Plan other = attention.new_plan();
  EXPECT_GT(other.workspace_bytes(), 0);
}

TEST(Engine, RefusedPlanLeavesThePlanAsItWas) {
  Fixture f;
  f.make_plan();
  f.run();
  const std::vector<float> before = f.o;
  const std::string view = f.plan.view().to_string();
  f.page_indptr[1] = 9;
  EXPECT_NE(message_of([&] { f.make_plan(); }), "no error");
  EXPECT_EQ(f.plan.generation(), 1u);
  EXPECT_EQ(f.plan.view().to_string(), view);
  f.o.assign(f.o.size(), -7.0f);
  f.run();
  EXPECT_EQ(f.o, before);
}

TEST(Engine, RefusedRunWritesNothing) {
  Fixture f;
  f.make_plan();
  EXPECT_NE(message_of([&] { f.run([](RunArgs& args) { args.sm_scale = std::numeric_limits<float>::quiet_NaN(); }); }), "no error");
  EXPECT_EQ(f.o, std::vector<float>(f.o.size(), -7.0f));
  EXPECT_EQ(message_of([&] { f.run([](RunArgs& args) { args.mask_group = 1; }); }),
            "run: mask_group = 1; the plan has 1 mask group, counted from 0");
}

TEST(Engine, MaskBelongsToThePlan) {
  Fixture f("sliding_window");
  const Value three[] = {{"window_left", 3}};
  const Value two[] = {{"window_left", 2}};
  const MaskValues planned{.values = three};
  f.make_plan({&planned, 1});
  f.run();
  f.run([&](RunArgs& args) { args.mask = MaskValues{.values = three}; });
  EXPECT_NE(message_of([&] {
              f.run([&](RunArgs& args) { args.mask = MaskValues{.values = two}; });
            }).find("mask window_left = 2 but the plan was made with 3"),
            std::string::npos);
}

TEST(Engine, MaskGroupsOfOnePlan) {
  Fixture f("sliding_window", "cpu", 3);
  const Value narrow[] = {{"window_left", 0}};
  const Value wide[] = {{"window_left", 100}};
  const MaskValues masks[] = {{.values = narrow}, {.values = wide}, {.any = true}};
  f.make_plan(masks);
  f.run();
  const std::vector<float> of_narrow = f.o;
  f.run([](RunArgs& args) { args.mask_group = 1; });
  const std::vector<float> of_wide = f.o;
  EXPECT_NE(of_narrow, of_wide);
  // Planned as `any`: the mask comes with the run, and is needed.
  EXPECT_NE(message_of([&] { f.run([](RunArgs& args) { args.mask_group = 2; }); }).find("planned as `any`"), std::string::npos);
  f.run([&](RunArgs& args) {
    args.mask_group = 2;
    args.mask = MaskValues{.values = narrow};
  });
  for (std::size_t i = 0; i < f.o.size(); ++i) {
    EXPECT_NEAR(f.o[i], of_narrow[i], 1e-6f);
  }
}

TEST(Engine, TooManyMaskGroups) {
  Fixture f("sliding_window");
  const Value narrow[] = {{"window_left", 0}};
  const MaskValues masks[] = {{.values = narrow}, {.values = narrow}};
  EXPECT_EQ(message_of([&] { f.make_plan(masks); }), "plan: 2 mask groups are over Limits::max_mask_groups = 1");
}

TEST(Engine, CheckPagesReadsWhatARunReads) {
  Fixture f("sliding_window");
  const Value itself[] = {{"window_left", 0}};
  const MaskValues mask{.values = itself};
  f.pages = {-77, 1, 1 << 30, -5, 5};  // only the last page of each request is seen: earlier entries are freed
  f.make_plan({&mask, 1});
  const std::int64_t six = 6;
  const std::int64_t five = 5;
  f.attention.check_pages(f.plan, {&six, 1});
  f.run();
  EXPECT_EQ(message_of([&] {
              f.attention.check_pages(f.plan, {&five, 1});
            }),
            "check_pages: format 0: page 2 of request 1, table entry 4, is 5; the cache has 5 pages");
}

TEST(Engine, UnknownNamesListTheKnownOnes) {
  EXPECT_NE(message_of([] { Engine({.backend = "gpu"}); }).find("reference"), std::string::npos);
  EXPECT_NE(message_of([] { Fixture f("casual"); }).find("causal"), std::string::npos);
}

TEST(Engine, OptionsThatNothingCouldFollowAreRefused) {
  EXPECT_EQ(message_of([] { Engine({.num_threads = -1}); }),
            "engine: num_threads = -1; it must be 1 to 4096, or 0: all the process may use");
  EXPECT_EQ(message_of([] { Engine({.num_threads = 2'000'000'000}); }),
            "engine: num_threads = 2000000000; it must be 1 to 4096, or 0: all the process may use");
  EXPECT_EQ(message_of([] { Engine({.backend = "reference", .isa = "avx2"}); }),
            "engine: isa = 'avx2' but the backend is reference; instruction sets are the cpu's");
  EXPECT_EQ(message_of([] { Engine({.backend = "cpu", .device_id = 3}); }),
            "engine: device_id = 3 but the backend is cpu; only GPUs are counted");
}

TEST(Engine, ExplainNamesKernelAndBuffers) {
  Fixture f;
  const std::string text = f.attention.explain();
  EXPECT_NE(text.find("chosen"), std::string::npos);
  EXPECT_NE(text.find("partial states"), std::string::npos);
  const Attention split = f.engine.prepare(f.attention.spec(), f.attention.limits(), {.policy = Policy::fixed_split, .fixed_split = 32});
  EXPECT_NE(split.explain().find("fixed_split: KV is cut every 32 columns"), std::string::npos) << split.explain();
  EXPECT_EQ(split.workspace_bytes(), split.new_plan().workspace_bytes());
}

// Sanitizers end the program where operator new has no memory.
#if defined(__has_feature)
#define FOVEA_NEW_CAN_FAIL !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FOVEA_NEW_CAN_FAIL 0
#else
#define FOVEA_NEW_CAN_FAIL 1
#endif

TEST(Engine, NoMemoryForAPlanIsSaidWithItsBytes) {
  if (!FOVEA_NEW_CAN_FAIL) {
    GTEST_SKIP() << "operator new doesn't throw here";
  }
  for (const char* backend : {"cpu", "reference"}) {
    Fixture f("causal", backend);
    AttentionSpec spec = f.attention.spec();
    spec.num_qo_heads = spec.num_kv_heads = 64;
    spec.head_dim_vo = 1024;
    spec.formats.resize(3, KvFormat::paged(4));
    // Level states of 2^29 query tokens: 422 TB, more than addresses reach.
    const Attention attention = f.engine.prepare(
        spec, {.max_requests = 1, .max_query_tokens = (1 << 29) - 1, .max_kv_tokens_per_request = 64, .max_row_groups = 4});
    const std::string text = message_of([&] { attention.new_plan(); });
    EXPECT_NE(text.find("new_plan: no room for 42"), std::string::npos) << text;
    EXPECT_NE(text.find("both follow from the limits"), std::string::npos) << text;
    f.make_plan();  // what was there is unharmed
    f.run();
  }
}

TEST(Engine, FixedSplitsThatNoKernelCanCutAreRefused) {
  for (const char* backend : {"cpu", "reference"}) {
    Fixture f("causal", backend);
    const std::string text = message_of(
        [&] { f.engine.prepare(f.attention.spec(), f.attention.limits(), {.policy = Policy::fixed_split, .fixed_split = 100}); });
    EXPECT_NE(text.find("fixed_split = 100 is no multiple of"), std::string::npos) << text;
  }
}

TEST(DeviceBuffer, PartsAreWrittenAndReadAndNothingBeside) {
  const Engine engine;
  const DeviceBuffer buffer(engine, 10);
  buffer.fill(7);
  const char text[] = "abc";
  buffer.write(text, 3, 4);
  char all[10];
  buffer.read(all, sizeof(all));
  EXPECT_EQ(std::string(all, sizeof(all)), std::string("\7\7\7\7abc\7\7\7"));
  char part[3] = {};
  buffer.read(part, 2, 5);
  EXPECT_STREQ(part, "bc");
  buffer.write(text, 0, 10);  // nothing, at the end
  EXPECT_THROW(buffer.write(text, 3, 8), InvalidArgument);
  EXPECT_THROW(buffer.read(part, 1, 10), InvalidArgument);
  EXPECT_THROW(buffer.read(part, 2, SIZE_MAX), InvalidArgument);
}

}  // namespace
}  // namespace fovea
