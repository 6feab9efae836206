// NaN and infinity: what a row sees comes out of it, in o and in lse; what no row of a tile sees never does; a spoilt state is not an empty
// one.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "check/number.h"
#include "tests/conformance/paged_batch.h"
#include "tests/conformance/targets.h"

namespace fovea::check {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class NonFinite : public testing::TestWithParam<Target> {};

TEST_P(NonFinite, MergedStatesKeepIt) {
  const Engine engine(GetParam().options);
  for (const auto& [a, b] : {std::pair{kNan, 1.0f}, std::pair{1.0f, kNan}, std::pair{-kInfinity, kNan}, std::pair{kNan, -kInfinity},
                             std::pair{kInfinity, 1.0f}, std::pair{kInfinity, kInfinity}}) {
    float o[3][8] = {{1, 1, 1, 1, 1, 1, 1, 1}, {2, 2, 2, 2, 2, 2, 2, 2}, {}};
    float lse[3] = {a, b, 0};
    std::vector<State> states;
    for (int s = 0; s < 3; ++s) {
      states.push_back(
          {.o = TensorView::contiguous(o[s], DType::f32, {1, 1, 8}), .lse = TensorView::contiguous(&lse[s], DType::f32, {1, 1})});
    }
    engine.merge_states(std::span(states).first(2), states[2]);
    EXPECT_TRUE(std::isnan(lse[2])) << "lse of " << a << " and " << b << " is " << lse[2];
    EXPECT_TRUE(std::isnan(o[2][0])) << "o of " << a << " and " << b << " is " << o[2][0];
  }
}

/// Queries of NaN: their rows are NaN, whole or in pieces, and no other row is.
TEST_P(NonFinite, QueriesComeOutInTheirRows) {
  for (const Policy policy : {Policy::throughput, Policy::batch_invariant}) {
    PagedBatch paged(4, 2, 64, 512, 64);
    const Engine engine(GetParam().options);
    const Attention attention =
        engine.prepare(paged.spec(), {.max_requests = 4, .max_query_tokens = 64, .max_kv_tokens_per_request = 6000}, {.policy = policy});
    Plan plan = attention.new_plan();
    paged.clear();
    paged.add(1, 5000);
    paged.add(40, 60);
    for (const int row : {0, 7}) {  // a decode, and one among many
      const RunArgs args = paged.args();
      float* q = args.q.as<float>() + row * args.q.stride(0) + args.q.stride(1);  // of head 1
      const float kept = q[5];
      q[5] = kNan;
      attention.plan(plan, paged.batch());
      attention.run(plan, args);
      for (std::size_t at = 0; at < static_cast<std::size_t>(paged.num_rows()) * 4; ++at) {
        const bool spoilt = at == static_cast<std::size_t>(row) * 4 + 1;
        ASSERT_EQ(std::isnan(paged.lse()[at]), spoilt) << "lse of row and head " << at << " is " << paged.lse()[at];
        ASSERT_EQ(std::isnan(paged.o()[at * 64 + 9]), spoilt) << "o of row and head " << at << " is " << paged.o()[at * 64 + 9];
      }
      q[5] = kept;
    }
  }
}

/// A batch of two formats for one query; the first format has no tokens.
TEST_P(NonFinite, AnEmptyFormatDoesNotHideIt) {
  const Engine engine(GetParam().options);
  const AttentionSpec spec{.num_qo_heads = 1,
                           .num_kv_heads = 1,
                           .head_dim_qk = 8,
                           .q_dtype = DType::f32,
                           .k_dtype = DType::f32,
                           .v_dtype = DType::f32,
                           .o_dtype = DType::f32,
                           .variant = "full",
                           .formats = {KvFormat::ragged(), KvFormat::ragged()}};
  const Attention attention = engine.prepare(spec, {.max_requests = 1, .max_kv_tokens_per_request = 16});
  Plan plan = attention.new_plan();
  const std::vector<std::int32_t> qo_indptr{0, 1}, none{0, 0}, four{0, 4};
  const KvTables tables[] = {KvTables::ragged(TensorView::of(none)), KvTables::ragged(TensorView::of(four))};
  attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = tables});
  std::vector<float> q(8, 1.0f), k(32, 1.0f), v(32, 1.0f), o(8), lse(1);
  k[5] = kNan;
  KvCache cache;
  cache.k = TensorView::contiguous(k.data(), DType::f32, {4, 1, 8});
  cache.v = TensorView::contiguous(v.data(), DType::f32, {4, 1, 8});
  const KvCache caches[] = {cache, cache};
  attention.run(plan, {.q = TensorView::contiguous(q.data(), DType::f32, {1, 1, 8}),
                       .kv = caches,
                       .o = TensorView::contiguous(o.data(), DType::f32, {1, 1, 8}),
                       .lse = TensorView::contiguous(lse.data(), DType::f32, {1, 1})});
  EXPECT_TRUE(std::isnan(o[0])) << o[0];
  EXPECT_TRUE(std::isnan(lse[0])) << lse[0];
}

/// Tokens that `keep` hides from every row, with NaN in key, value and scales.
TEST_P(NonFinite, HiddenTokensMayHoldAnything) {
  constexpr int kTokens = 40, kDim = 8;
  const Engine engine(GetParam().options);
  const AttentionSpec spec{.num_qo_heads = 1,
                           .num_kv_heads = 1,
                           .head_dim_qk = kDim,
                           .q_dtype = DType::f32,
                           .k_dtype = DType::e4m3,
                           .v_dtype = DType::e4m3,
                           .o_dtype = DType::f32,
                           .kv_quant = KvQuant::token,
                           .variant = "custom_mask",
                           .formats = {KvFormat::ragged()}};
  for (const int rows : {1, 24}) {
    const Attention attention = engine.prepare(spec, {.max_requests = 1, .max_query_tokens = rows, .max_kv_tokens_per_request = 64});
    Plan plan = attention.new_plan();
    const std::vector<std::int32_t> qo_indptr{0, rows}, kv_indptr{0, kTokens}, mask_indptr{0, kTokens * rows / 8};
    std::vector<std::uint8_t> bits(static_cast<std::size_t>(kTokens * rows / 8), 0xfe);  // tokens 0, 8, 16, ... are hidden
    const Value mask[] = {{"mask_bits", TensorView::contiguous(bits.data(), DType::u8, {kTokens * rows / 8})},
                          {"mask_indptr", TensorView::of(mask_indptr)}};
    const MaskValues masks[] = {{.values = mask}};
    const KvTables tables = KvTables::ragged(TensorView::of(kv_indptr));
    attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}}, {.masks = masks});
    std::vector<std::uint8_t> k(kTokens * kDim), v(k.size());
    std::vector<float> scales(kTokens, 1.0f), q(static_cast<std::size_t>(rows * kDim), 0.5f), o(q.size()),
        lse(static_cast<std::size_t>(rows));
    for (std::size_t i = 0; i < k.size(); ++i) {
      const bool hidden = i / kDim % 8 == 0;
      encode(DType::e4m3, k.data(), static_cast<std::int64_t>(i), hidden ? double{kNan} : 1.0);
      encode(DType::e4m3, v.data(), static_cast<std::int64_t>(i), hidden ? double{kNan} : 1.0);
      scales[i / kDim] = hidden ? kNan : 1.0f;
    }
    KvCache cache;
    cache.k = TensorView::contiguous(k.data(), DType::e4m3, {kTokens, 1, kDim});
    cache.v = TensorView::contiguous(v.data(), DType::e4m3, {kTokens, 1, kDim});
    cache.k_scale = cache.v_scale = Scale(TensorView::contiguous(scales.data(), DType::f32, {kTokens, 1}));
    attention.run(plan, {.q = TensorView::contiguous(q.data(), DType::f32, {rows, 1, kDim}),
                         .kv = {&cache, 1},
                         .o = TensorView::contiguous(o.data(), DType::f32, {rows, 1, kDim}),
                         .lse = TensorView::contiguous(lse.data(), DType::f32, {rows, 1})});
    for (const float value : o) {
      ASSERT_NEAR(value, 1.0f, 1e-6) << rows << " rows";
    }
    for (const float value : lse) {
      ASSERT_NEAR(value, std::sqrt(8.0) / 2 + std::log(35.0), 1e-6) << rows << " rows";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, NonFinite, testing::ValuesIn(all_targets()), name_of_target);

}  // namespace
}  // namespace fovea::check
