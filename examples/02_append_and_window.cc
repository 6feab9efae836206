// Chunked prefill and decode in one batch: new tokens are appended to the cache by slot, then a sliding window runs over it. Two layers
// share a plan.
#include <fovea/fovea.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

int main() {
  using namespace fovea;
  constexpr int kHeads = 4, kKvHeads = 4, kDim = 32, kPageSize = 8, kPages = 16, kTokens = 13;

  const Engine engine;
  AttentionSpec spec{.num_qo_heads = kHeads, .num_kv_heads = kKvHeads, .head_dim_qk = kDim, .variant = "sliding_window"};
  spec.q_dtype = spec.k_dtype = spec.v_dtype = spec.o_dtype = DType::f32;
  spec.formats = {KvFormat::paged(kPageSize)};
  const Attention attention = engine.prepare(spec, {.max_requests = 8, .max_query_tokens = 64, .max_kv_tokens_per_request = 128});
  Plan plan = attention.new_plan();

  // Request 0 continues its prompt: 12 new tokens after 8 old ones. Request 1 decodes one token, its 20th.
  const std::vector<std::int32_t> qo_indptr{0, 12, 13};
  std::vector<std::int32_t> page_table{7, 2, 9, 0,   // request 0: tokens 0..19
                                       4, 5, 6, 0};  // request 1: tokens 0..19
  const std::vector<std::int32_t> kv_len{20, 20};
  const KvTables tables = KvTables::table_2d(TensorView::contiguous(page_table.data(), DType::i32, {2, 4}), TensorView::of(kv_len));
  const std::vector<Value> window{{"window_left", 9}};  // a token sees itself and nine before it
  const MaskValues mask{.values = window};
  attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}}, {.masks = {&mask, 1}});

  std::vector<float> new_k(kTokens * kKvHeads * kDim, 1.0f), new_v(kTokens * kKvHeads * kDim, 3.0f);
  std::vector<float> q(kTokens * kHeads * kDim, 1.0f), o(q.size());
  const std::vector<std::int64_t> slots{2 * 8 + 0, 2 * 8 + 1, 2 * 8 + 2, 2 * 8 + 3, 2 * 8 + 4, 2 * 8 + 5, 2 * 8 + 6,
                                        2 * 8 + 7, 9 * 8 + 0, 9 * 8 + 1, 9 * 8 + 2, 9 * 8 + 3, 6 * 8 + 3};
  bool right = true;
  for (int layer = 0; layer < 2; ++layer) {
    std::vector<float> k(kPages * kPageSize * kKvHeads * kDim, 1.0f), v(k.size(), 3.0f - 10.0f * static_cast<float>(layer));
    const KvCache cache{.k = TensorView::contiguous(k.data(), DType::f32, {kPages, kPageSize, kKvHeads, kDim}),
                        .v = TensorView::contiguous(v.data(), DType::f32, {kPages, kPageSize, kKvHeads, kDim})};
    engine.append_kv({.k = TensorView::contiguous(new_k.data(), DType::f32, {kTokens, kKvHeads, kDim}),
                      .v = TensorView::contiguous(new_v.data(), DType::f32, {kTokens, kKvHeads, kDim}),
                      .cache = cache,
                      .slot_mapping = TensorView::of(slots)});
    attention.run(plan, {.q = TensorView::contiguous(q.data(), DType::f32, {kTokens, kHeads, kDim}),
                         .kv = {&cache, 1},
                         .o = TensorView::contiguous(o.data(), DType::f32, {kTokens, kHeads, kDim})});
    // The last token of each request sees ten keys of equal logit. Request 0's are all new; of request 1's only its own token is.
    const float first = o[11 * kHeads * kDim], second = o[12 * kHeads * kDim];
    const float old_value = 3.0f - 10.0f * static_cast<float>(layer);
    std::printf("layer %d: %g %g\n", layer, static_cast<double>(first), static_cast<double>(second));
    right = right && std::fabs(first - 3.0f) < 1e-4f && std::fabs(second - (9 * old_value + 3.0f) / 10) < 1e-4f;
  }
  return right ? 0 : 1;
}
