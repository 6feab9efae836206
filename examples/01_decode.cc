// One decode step of a batch with a paged KV cache: two requests, one new token each, grouped-query heads.
// [readme]
#include <fovea/fovea.h>

#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  using namespace fovea;
  constexpr int kHeads = 8, kKvHeads = 2, kDim = 64, kPageSize = 16, kPages = 8;

  // Once per model: what a layer looks like, and how large a batch may get.
  const Engine engine;  // the CPU, all of its cores
  const AttentionSpec spec{.num_qo_heads = kHeads,
                           .num_kv_heads = kKvHeads,
                           .head_dim_qk = kDim,
                           .q_dtype = DType::f32,
                           .k_dtype = DType::f32,
                           .v_dtype = DType::f32,
                           .o_dtype = DType::f32,
                           .variant = "causal",
                           .formats = {KvFormat::paged(kPageSize)}};
  const Attention attention = engine.prepare(spec, {.max_requests = 32, .max_kv_tokens_per_request = 4096});
  Plan plan = attention.new_plan();  // every buffer; nothing allocates after this

  // Once a step: who is in the batch. Request 0 has 40 tokens in pages 5, 1 and 3; request 1 has 16 in page 2.
  const std::vector<std::int32_t> qo_indptr{0, 1, 2};
  const std::vector<std::int32_t> page_indptr{0, 3, 4}, page_indices{5, 1, 3, 2}, last_page_len{8, 16};
  const KvTables tables = KvTables::csr(TensorView::of(page_indptr), TensorView::of(page_indices), TensorView::of(last_page_len));
  attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}});

  // Once a layer: the tensors. Keys are equal, so every output is the mean of the values its request sees.
  std::vector<float> q(2 * kHeads * kDim, 0.1f), o(q.size());
  std::vector<float> k(kPages * kPageSize * kKvHeads * kDim, 0.2f), v(k.size());
  for (std::size_t i = 0; i < v.size(); ++i) {
    v[i] = static_cast<float>(i / (kPageSize * kKvHeads * kDim));  // the number of the page
  }
  const KvCache cache{.k = TensorView::contiguous(k.data(), DType::f32, {kPages, kPageSize, kKvHeads, kDim}),
                      .v = TensorView::contiguous(v.data(), DType::f32, {kPages, kPageSize, kKvHeads, kDim})};
  attention.run(plan, {.q = TensorView::contiguous(q.data(), DType::f32, {2, kHeads, kDim}),
                       .kv = {&cache, 1},
                       .o = TensorView::contiguous(o.data(), DType::f32, {2, kHeads, kDim})});

  const float first = o[0], second = o[kHeads * kDim];
  std::printf("%g %g\n", first, second);  // (16 * 5 + 16 * 1 + 8 * 3) / 40 = 3, and 2
  return first > 2.999f && first < 3.001f && second > 1.999f && second < 2.001f ? 0 : 1;
}
// [/readme]
