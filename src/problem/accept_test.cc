// Right calls pass, without a heap allocation, and come out as the pointers and numbers that backends read.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "backends/builtin_variants.h"
#include "src/problem/append_fixtures.h"
#include "src/problem/batch_fixtures.h"
#include "src/problem/run_fixture.h"

namespace {
std::size_t allocations = 0;
}

// Not inlined: compilers would see malloc meet delete, and warn.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  void* memory = std::malloc(bytes);
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace fovea::test {
namespace {

template <class F>
std::size_t allocations_in(F&& call) {
  const std::size_t before = allocations;
  call();
  return allocations - before;
}

TEST(CheckProblem, ResolvesEveryDefault) {
  const AttentionSpec spec{.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64};
  const Problem problem = check_problem(spec, {}, {});
  EXPECT_EQ(problem.group_size, 4);
  EXPECT_EQ(problem.spec.head_dim_vo, 64);
  EXPECT_EQ(problem.limits.max_query_tokens, 256);
  EXPECT_EQ(problem.limits.max_query_tokens_per_request, 256);
  EXPECT_EQ(problem.limits.max_kv_tokens_per_request, 131072);
  EXPECT_EQ(problem.limits.max_kv_tokens, std::int64_t{256} * 131072);
  EXPECT_EQ(problem.limits.max_row_groups, 256);
}

TEST(CheckProblem, LimitsFollowFromThoseGiven) {
  AttentionSpec spec{.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64};
  spec.formats = {KvFormat::paged(1), KvFormat::block_sparse(64, 16)};
  spec.formats[0].per_kv_head = true;
  const Limits limits = check_problem(spec, {.max_requests = 2, .max_query_tokens_per_request = 640, .max_kv_tokens = 1000}, {}).limits;
  EXPECT_EQ(limits.max_query_tokens, 640);
  EXPECT_EQ(limits.max_kv_tokens_per_request, 1000);
  EXPECT_EQ(limits.max_row_groups, 2 * 2 + 10);
}

template <class S>
class Steps : public testing::Test {};
using AllSteps = testing::Types<CsrStep, TableStep, RaggedStep, SparseStep, SharedPrefixStep>;
TYPED_TEST_SUITE(Steps, AllSteps);

TYPED_TEST(Steps, PassWithoutAllocating) {
  TypeParam step;
  const Problem problem = check_problem(step.spec, step.limits, {});
  step.batch.kv = step.kv;
  BatchView view{};
  EXPECT_EQ(allocations_in([&] { view = check_batch(problem, step.batch, Device{}, step.seen_rows.data()); }), 0u);
  EXPECT_EQ(view.num_formats, static_cast<std::int32_t>(step.spec.formats.size()));
  EXPECT_EQ(view.num_requests, static_cast<std::int32_t>(step.qo_indptr.size()) - 1);
  EXPECT_EQ(view.qo_indptr, step.qo_indptr.data());
}

TEST(CheckBatch, EmptyBatchesPass) {
  CsrStep step;
  step.batch.qo_indptr = step.batch.qo_indptr.slice(0, 0, 1);
  step.kv[0].page_indptr = step.kv[0].page_indptr.slice(0, 0, 1);
  step.kv[0].last_page_len = step.kv[0].last_page_len.slice(0, 0, 0);
  EXPECT_EQ(step.check().num_requests, 0);
  step.kv[0].page_indices = TensorView::contiguous(nullptr, DType::i32, {0});
  EXPECT_EQ(step.check().formats[0].num_groups(), 0);
}

TEST(CheckBatch, LastPageOfAnEmptyRequestIsIgnored) {
  CsrStep step;
  step.page_indptr = {0, 0, 4, 5, 7};
  step.last_page_len[0] = -77;
  EXPECT_EQ(tokens_of_group(step.check().formats[0], 0), 0);
}

TEST(CheckBatch, GroupsAndRowReferencesFollowEachOther) {
  SharedPrefixStep step;
  const BatchView view = step.check();
  EXPECT_EQ(view.formats[0].first_group, 0);
  EXPECT_EQ(view.formats[0].first_row_ref, 0);
  EXPECT_EQ(view.formats[1].first_group, 2);
  EXPECT_EQ(view.formats[1].first_row_ref, -1);
  const PlannedBatch planned = planned_batch(view, step.batch);
  EXPECT_EQ(planned.num_query_tokens, 4);
  EXPECT_EQ(planned.tables[1], step.suffix_pages.data());
}

TEST(CheckBatch, ATableOfOneRowNeedsNoStride) {
  TableStep step;
  step.kv[0].page_table = TensorView::strided(step.page_table.data(), DType::i32, {1, 3}, {-9, 1});
  step.table_rows = {0, 0, 0, 0};
  EXPECT_EQ(step.check().formats[0].table_row_stride, 3);
}

TEST(CheckBatch, CostsTheSameForAnyNumberOfPages) {
  CsrStep step;  // page ids are never read: there need be none behind the pointer
  static std::int32_t one_page = 0;
  step.kv[0].page_indices = TensorView::contiguous(&one_page, DType::i32, {std::int64_t{1} << 30});
  EXPECT_EQ(step.check().num_requests, 4);
}

TEST(CheckRun, FillsTheParametersWithoutAllocating) {
  RunCall run;
  const Problem problem = check_problem(run.spec, {}, {});
  const VariantInfo& variant = builtin_variant("causal");
  run.args.kv = run.caches;
  run.args.q_scale = 2.0f;
  const auto call = [&] { check_run(problem, variant, run.planned, run.args, Device{}, run.params); };
  EXPECT_EQ(allocations_in(call), 0u);
  EXPECT_EQ(run.params.sm_scale, 0.25f);  // 2 / sqrt(64)
  EXPECT_EQ(run.params.q.data, run.q.data());
  EXPECT_EQ(run.params.q.token_stride, 512);
  EXPECT_EQ(run.params.out.lse_token_stride, 8);
  const KvView& kv = run.params.kv[0];
  EXPECT_EQ(kv.table, run.table.data());
  EXPECT_EQ(kv.page_size, 4);
  EXPECT_EQ(kv.k.page_stride, 4 * 2 * 64);
  EXPECT_EQ(kv.k.token_stride, 2 * 64);
  EXPECT_EQ(kv.k.head_stride, 64);
  EXPECT_EQ(kv.v.head_stride, 32);
  EXPECT_EQ(kv.k.scale.number, 0.5f);
  EXPECT_EQ(kv.v.scale.data, nullptr);
}

TEST(CheckRun, LayoutsDifferInStridesAlone) {
  RunCall run;
  run.caches[0].layout = KvLayout::hnd;
  run.caches[0].k = TensorView::contiguous(run.k.data(), DType::e4m3, {10, 2, 4, 64});
  run.caches[0].v = TensorView::contiguous(run.v.data(), DType::e4m3, {10, 2, 4, 32});
  run.check();
  EXPECT_EQ(run.params.kv[0].k.token_stride, 64);
  EXPECT_EQ(run.params.kv[0].k.head_stride, 4 * 64);
}

TEST(CheckRun, RaggedAndThreeAxisCachesHaveTokensForPages) {
  RunCall run;
  run.make_ragged();
  run.check();
  EXPECT_EQ(run.params.kv[0].table, nullptr);
  EXPECT_EQ(run.params.kv[0].k.page_stride, 4 * 2 * 64);
  EXPECT_EQ(run.params.kv[0].k.token_stride, 0);
}

TEST(CheckRun, ScalesPerHeadAndPerToken) {
  RunCall run;
  run.spec.kv_quant = KvQuant::head;
  run.caches[0].k_scale = run.caches[0].v_scale = run.scale_tensor({2});
  run.check();
  EXPECT_EQ(run.params.kv[0].k.scale.head_stride, 1);
  EXPECT_EQ(run.params.kv[0].k.scale.per_token, 0);
  run.spec.kv_quant = KvQuant::token;
  run.caches[0].k_scale = run.caches[0].v_scale = run.scale_tensor({10, 4, 2});
  run.check();
  EXPECT_EQ(run.params.kv[0].v.scale.page_stride, 8);
  EXPECT_EQ(run.params.kv[0].v.scale.token_stride, 2);
  EXPECT_EQ(run.params.kv[0].v.scale.head_stride, 1);
  EXPECT_EQ(run.params.kv[0].v.scale.per_token, 1);
}

TEST(CheckRun, OneAllocationMayHoldKAndV) {
  RunCall run;
  run.spec.head_dim_vo = 32;
  std::vector<std::uint8_t> both(10 * 2 * 4 * 2 * 64);
  run.caches[0] = KvCache::v_in_k(TensorView::contiguous(both.data(), DType::e4m3, {10, 4, 2, 64}), 32);
  run.check();
  EXPECT_EQ(run.params.kv[0].k.data, run.params.kv[0].v.data);
  run.caches[0] = KvCache::halves(TensorView::contiguous(both.data(), DType::e4m3, {10, 4, 2, 96}), 64);
  run.check();
  EXPECT_EQ(run.params.kv[0].v.data, both.data() + 64);
  EXPECT_EQ(run.params.kv[0].v.head_stride, 96);
}

TEST(FillFields, WritesValuesAndKeepsDefaults) {
  const VariantInfo& window = builtin_variant("sliding_window");
  std::int32_t mask[2] = {-1, 5};
  const Value values[] = {{"window_left", 128.0}};
  EXPECT_EQ(allocations_in([&] { fill_fields({.where = "plan", .what = "mask", .variant = window, .num_requests = 2}, values, mask); }),
            0u);
  EXPECT_EQ(mask[0], 128);
  EXPECT_EQ(mask[1], 5);

  const VariantInfo& capped = builtin_variant("sliding_window+soft_cap");
  alignas(16) std::byte params[64] = {};
  ASSERT_LE(capped.param_fields.struct_bytes, sizeof params);
  const Value cap[] = {{"soft_cap.cap", 30}};  // an integer does for a float, and a part's name is allowed where it isn't needed
  EXPECT_EQ(allocations_in([&] { fill_fields({.where = "run", .what = "params", .variant = capped, .num_requests = 2}, cap, params); }),
            0u);
  float value = 0.0f;
  std::memcpy(&value, params + capped.param_fields.fields[0].offset, sizeof value);
  EXPECT_EQ(value, 30.0f);
}

TEST(FillFields, TablesAndBits) {
  const VariantInfo& custom = builtin_variant("custom_mask");
  std::vector<std::uint8_t> bits(5);
  std::vector<std::int32_t> indptr{0, 2, 5};
  const Value values[] = {{"mask_indptr", TensorView::of(indptr)}, {"mask_bits", TensorView::contiguous(bits.data(), DType::u8, {5})}};
  struct {
    BitMask mask_bits;
    Table<std::int32_t> mask_indptr;
  } mask;
  EXPECT_EQ(allocations_in([&] { fill_fields({.where = "plan", .what = "mask", .variant = custom, .num_requests = 2}, values, &mask); }),
            0u);
  EXPECT_EQ(mask.mask_bits.bits, bits.data());
  EXPECT_EQ(mask.mask_bits.num_bytes, 5);
  EXPECT_EQ(mask.mask_indptr.size, 3);
  EXPECT_EQ(mask.mask_indptr[2], 5);
}

TEST(CheckAppend, PassesWithoutAllocating) {
  AppendBySlot by_slot;
  AppendByRequest by_request;
  AppendParams params{};
  EXPECT_EQ(allocations_in([&] { params = by_slot.check(); }), 0u);
  EXPECT_TRUE(params.slots_64);
  EXPECT_EQ(params.num_tokens, 5);
  EXPECT_EQ(params.cache.k.page_stride, 64);
  EXPECT_EQ(allocations_in([&] { params = by_request.check(); }), 0u);
  EXPECT_EQ(params.slots, nullptr);
  EXPECT_EQ(params.num_requests, 3);
  EXPECT_EQ(params.table, by_request.page_indices.data());
  by_request.use_table();
  params = by_request.check();
  EXPECT_EQ(params.tables.table_row_stride, 2);
}

TEST(CheckMergeStates, OutMayBeAState) {
  Merge merge;
  MergeStatesParams params{};
  EXPECT_EQ(allocations_in([&] { params = merge.check(); }), 0u);
  EXPECT_EQ(params.num_states, 3);
  merge.out = merge.states[1];
  params = merge.check();
  EXPECT_EQ(params.out.o, merge.states[1].o.data);
}

}  // namespace
}  // namespace fovea::test
