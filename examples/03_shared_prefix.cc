// Composable formats: three requests share a prompt of 64 tokens, which is read once for all of them, and each has a suffix of its own.
// The result is that of plain page tables.
#include <fovea/fovea.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

int main() {
  using namespace fovea;
  constexpr int kRequests = 3, kHeads = 4, kKvHeads = 1, kDim = 64, kPageSize = 16, kPages = 8;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto filled = [&](std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      value = normal(random);
    }
    return values;
  };
  std::vector<float> q = filled(kRequests * kHeads * kDim), k = filled(kPages * kPageSize * kKvHeads * kDim), v = filled(k.size());
  const TensorView q_view = TensorView::contiguous(q.data(), DType::f32, {kRequests, kHeads, kDim});
  const KvCache cache{.k = TensorView::contiguous(k.data(), DType::f32, {kPages, kPageSize, kKvHeads, kDim}),
                      .v = TensorView::contiguous(v.data(), DType::f32, {kPages, kPageSize, kKvHeads, kDim})};

  const Engine engine;
  AttentionSpec spec{.num_qo_heads = kHeads, .num_kv_heads = kKvHeads, .head_dim_qk = kDim};
  spec.q_dtype = spec.k_dtype = spec.v_dtype = spec.o_dtype = DType::f32;
  const Limits limits{.max_requests = kRequests, .max_kv_tokens_per_request = 256};
  const std::vector<std::int32_t> qo_indptr{0, 1, 2, 3};

  // Plain: every request lists the pages of the prompt (0..3) and its own (4 + i).
  spec.formats = {KvFormat::paged(kPageSize)};
  const std::vector<std::int32_t> indptr{0, 5, 10, 15}, indices{0, 1, 2, 3, 4, 0, 1, 2, 3, 5, 0, 1, 2, 3, 6}, last{5, 16, 1};
  const KvTables plain = KvTables::csr(TensorView::of(indptr), TensorView::of(indices), TensorView::of(last));
  std::vector<float> expected(q.size());
  const Attention one = engine.prepare(spec, limits);
  Plan plan = one.new_plan();
  one.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&plain, 1}});
  one.run(plan, {.q = q_view, .kv = {&cache, 1}, .o = TensorView::contiguous(expected.data(), DType::f32, {kRequests, kHeads, kDim})});

  // Composed: a first format whose one group is all three query rows over the prompt, a second with the suffixes.
  spec.formats = {KvFormat::paged(kPageSize), KvFormat::paged(kPageSize)};
  const std::vector<std::int32_t> prompt_indptr{0, 4}, prompt_indices{0, 1, 2, 3}, prompt_rows{0, 3};
  const std::vector<std::int32_t> suffix_indptr{0, 1, 2, 3}, suffix_indices{4, 5, 6};
  const KvTables levels[] = {{.page_indptr = TensorView::of(prompt_indptr),
                              .page_indices = TensorView::of(prompt_indices),
                              .row_indptr = TensorView::of(prompt_rows)},
                             KvTables::csr(TensorView::of(suffix_indptr), TensorView::of(suffix_indices), TensorView::of(last))};
  const KvCache caches[] = {cache, cache};
  std::vector<float> o(q.size());
  const Attention two = engine.prepare(spec, limits);
  Plan composed = two.new_plan();
  two.plan(composed, {.qo_indptr = TensorView::of(qo_indptr), .kv = levels});
  two.run(composed, {.q = q_view, .kv = caches, .o = TensorView::contiguous(o.data(), DType::f32, {kRequests, kHeads, kDim})});

  float worst = 0.0f;
  for (std::size_t i = 0; i < o.size(); ++i) {
    worst = std::max(worst, std::fabs(o[i] - expected[i]));
  }
  std::printf("largest difference between plain and composed: %g\n", static_cast<double>(worst));
  return worst < 1e-5f ? 0 : 1;
}
