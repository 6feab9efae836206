// Tiles that a mask calls empty are never touched, and `keep` is never evaluated in those it calls full.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "backends/cpu/isa.h"
#include "backends/cpu/scratch.h"
#include "src/schedule/test_plan.h"
#include "variants/document.h"

namespace fovea::cpu {
namespace {

constexpr std::int32_t kTokens = 700, kTileKv = 64, kTileQ = 96, kDim = 32;
constexpr std::int32_t kNoPage = 1 << 29;  // an address far outside of everything

/// The variant's code, counted.
struct Counted {
  const VariantCode* code;
  int mixed = 0, full = 0;
};
Counted counted;

void count_logits(const ScoreTile& tile, const void* mask, const void* params) {
  (tile.columns->full ? counted.full : counted.mixed) += 1;
  counted.code->make_logits(tile, mask, params);
}

/// One request of kTokens tokens in documents, one head, pages as long as kv tiles.
struct Prefill {
  Problem problem;
  Choice choice;
  std::vector<std::int32_t> documents, indptr{0, kTokens}, pages;
  std::vector<float> q, k, v, o;
  Document::Mask mask;
  Document::Params none;

  Prefill() {
    problem.spec.num_qo_heads = problem.spec.num_kv_heads = 1;
    problem.spec.head_dim_qk = problem.spec.head_dim_vo = kDim;
    problem.spec.formats = {KvFormat::paged(kTileKv)};
    problem.limits = {.max_requests = 1,
                      .max_query_tokens = kTokens,
                      .max_query_tokens_per_request = kTokens,
                      .max_kv_tokens_per_request = kTokens,
                      .max_kv_tokens = kTokens,
                      .max_row_groups = 1};
    choice = {.kernel = "attention_simd", .configs = {{.tile_q = kTileQ, .tile_kv = kTileKv, .form = PlanForm::list}}, .num_workers = 1};
    for (std::int32_t i = 0; i < kTokens; ++i) {
      documents.push_back(i < 130 ? 0 : (i < 400 ? 1 : i / 100));
    }
    mask.document_ids = {documents.data(), kTokens};
    mask.document_indptr = {indptr.data(), 2};
    const std::size_t num_pages = (kTokens + kTileKv - 1) / kTileKv;
    pages.resize(num_pages);
    q.assign(kTokens * kDim, 0.5f);
    o.assign(kTokens * kDim, -1.0f);
    k.assign(num_pages * kTileKv * kDim, 0.25f);
    v.assign(num_pages * kTileKv * kDim, 1.0f);
  }

  KernelParams params(const test::TestPlan& plan) {
    KernelParams p = plan.params();
    p.q = {.data = q.data(), .token_stride = kDim, .head_stride = kDim, .dtype = DType::f32};
    p.q_scale = 1.0f;
    p.out = {.o = o.data(),
             .token_stride = kDim,
             .head_stride = kDim,
             .lse = nullptr,
             .lse_token_stride = 0,
             .lse_head_stride = 0,
             .dtype = DType::f32};
    const ScaleView one{.data = nullptr, .page_stride = 0, .token_stride = 0, .head_stride = 0, .number = 1.0f, .per_token = 0};
    p.kv[0].k = {
        .data = k.data(), .page_stride = kTileKv * kDim, .token_stride = kDim, .head_stride = kDim, .scale = one, .dtype = DType::f32};
    p.kv[0].v = p.kv[0].k;
    p.kv[0].v.data = v.data();
    p.kv[0].table = pages.data();
    p.kv[0].page_size = kTileKv;
    p.range = mask.range();
    p.sm_scale = 1.0f;
    p.head_dim_qk = p.head_dim_vo = kDim;
    p.mask = &mask;
    p.variant_params = &none;
    return p;
  }
};

struct Expected {
  int mixed = 0, full = 0;
  std::vector<bool> needed;  // pages of one row tile
};

Expected expected_of(const Prefill& prefill, const WorkItem& item) {
  Expected expected;
  for (std::int32_t first = 0; first < kTokens; first += kTileKv) {
    bool any = false, all = first + kTileKv <= kTokens;
    for (std::int32_t q = item.row_begin; q < item.row_end; ++q) {
      for (std::int32_t c = first; c < std::min(first + kTileKv, kTokens); ++c) {
        const bool sees = prefill.documents[static_cast<std::size_t>(q)] == prefill.documents[static_cast<std::size_t>(c)];
        any |= sees;
        all &= sees;
      }
    }
    expected.mixed += any && !all ? 1 : 0;
    expected.full += all ? 1 : 0;
    expected.needed.push_back(any);
  }
  return expected;
}

TEST(Tiles, EmptyOnesAreNotTouchedAndFullOnesNotMasked) {
  Prefill prefill;
  const IsaCode& isa = choose_isa("");
  counted.code = &variant_code(isa, "document");
  VariantCode code = *counted.code;
  code.make_logits = count_logits;
  code.scale_only = false;
  const ScratchPool scratch(prefill.problem, prefill.choice, code, 1);
  const test::TestPlan plan(prefill.problem, prefill.choice, test::paged_batch(prefill.problem, {{kTokens, kTokens}}),
                            prefill.mask.range());
  int full = 0, empty = 0;
  for (const WorkItem& item : plan.items()) {
    const Expected expected = expected_of(prefill, item);
    for (std::size_t page = 0; page < prefill.pages.size(); ++page) {
      prefill.pages[page] = expected.needed[page] ? static_cast<std::int32_t>(page) : kNoPage;
      empty += expected.needed[page] ? 0 : 1;
    }
    counted.mixed = counted.full = 0;
    isa.attend(prefill.params(plan), code, &item, 1, scratch[0]);
    EXPECT_EQ(counted.mixed, expected.mixed) << "rows from " << item.row_begin;
    EXPECT_EQ(counted.full, expected.full) << "rows from " << item.row_begin;
    full += expected.full;
  }
  EXPECT_GT(full, 5);
  EXPECT_GT(empty, 30);
  for (const float x : prefill.o) {
    ASSERT_FLOAT_EQ(x, 1.0f);  // the mean of ones
  }
}

}  // namespace
}  // namespace fovea::cpu
