#include "serving/reference_check.h"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <set>

#include "serving/mix.h"
#include "serving/values.h"

namespace fovea::serving {
namespace {

constexpr std::int32_t kPageSize = 64;

// What an output may be off by beside its own rounding. Values are at most Values::kLargest.
// Float: a weight is off by a few roundings of the logit (about 10 in magnitude), of its maximum, of exp2 and of the sum; a sum over n
// products by about sqrt(n). Ten times what was seen with AVX2 and AVX-512.
constexpr double kFloat = 256 * 0x1p-24 * Values::kLargest;
// Weights may be rounded to bf16, as processors and GPUs with bf16 products do where outputs are bf16: each is off by 2^-9 of itself at
// most, and half as much on average, one way or the other. The errors of a sum of weights times values then have a standard deviation of
// 0.5 * 2^-9 times the norm of the weights; ten of them, and never more than if all went one way.
double weight_rounding(double weight_norm) { return 0x1p-9 * std::min(Values::kLargest, 5 * weight_norm); }

double ulp_bf16(double value) {
  int exponent = 0;
  std::frexp(std::max(std::fabs(value), 0x1p-100), &exponent);
  return std::ldexp(1.0, exponent - 8);
}

float float_of(std::uint16_t bf16) { return std::bit_cast<float>(std::uint32_t{bf16} << 16); }

Attention prepare(const Engine& engine, const LayerSpec& layers, std::int64_t max_pairs, std::int64_t max_kv_tokens) {
  AttentionSpec spec = layers.spec(1, 1, kPageSize);
  spec.o_dtype = DType::f32;
  return engine.prepare(spec, {.max_requests = static_cast<std::int32_t>(max_pairs),
                               .max_query_tokens_per_request = 1,
                               .max_kv_tokens_per_request = static_cast<std::int32_t>(std::max<std::int64_t>(max_kv_tokens, kPageSize))});
}

}  // namespace

struct ReferenceCheck::Dense {
  std::map<std::pair<std::int32_t, std::int32_t>, std::int32_t> first_page;  // of (work, kv head)
  std::vector<std::byte> k, v;
  KvCache cache;
};

ReferenceCheck::ReferenceCheck(const LayerSpec& layers, std::span<const ServedRequest> requests, const SchedulerTotals& largest)
    : layers_(layers),
      requests_(requests),
      sinks_(layers.sinks()),
      engine_({.backend = "reference"}),
      attention_(prepare(engine_, layers, std::max(kMinPairs, 2 * largest.max_step_requests), largest.max_kv_tokens)) {}

std::vector<ReferenceCheck::Pair> ReferenceCheck::pick(const Step& step, std::int32_t layer) const {
  const auto num_heads = static_cast<std::uint64_t>(layers_.model.num_qo_heads);
  std::uint64_t drawn = mix(mix(layers_.seed, static_cast<std::uint64_t>(step.index)), static_cast<std::uint64_t>(layer));
  const auto draw = [&drawn](std::uint64_t below) {
    return static_cast<std::int32_t>((drawn = mix(drawn + 0x9e3779b97f4a7c15ull)) % below);
  };
  std::set<Pair> pairs;
  std::vector<std::int32_t> work_of_row;
  for (std::size_t i = 0; i < step.work.size(); ++i) {
    const auto work = static_cast<std::int32_t>(i);
    pairs.insert({.head = draw(num_heads), .work = work, .row = 0});
    pairs.insert({.head = draw(num_heads), .work = work, .row = step.work[i].count - 1});
    work_of_row.insert(work_of_row.end(), static_cast<std::size_t>(step.work[i].count), work);
  }
  const std::size_t wanted = std::min<std::size_t>(kMinPairs, work_of_row.size() * num_heads);
  while (pairs.size() < wanted) {
    const std::int32_t work = work_of_row[static_cast<std::size_t>(draw(work_of_row.size()))];
    const std::int32_t row = draw(static_cast<std::uint64_t>(step.work[static_cast<std::size_t>(work)].count));
    pairs.insert({.head = draw(num_heads), .work = work, .row = row});
  }
  return {pairs.begin(), pairs.end()};  // sorted by head
}

void ReferenceCheck::make_dense(const Step& step, std::int32_t layer, std::span<const Pair> pairs, Dense& dense) const {
  const Model& model = layers_.model;
  const std::int32_t group_size = model.num_qo_heads / model.num_kv_heads;
  struct Piece {
    std::int32_t work, kv_head, num_tokens;
    std::int64_t first_slot;
  };
  std::vector<Piece> pieces;
  std::int64_t num_pages = 0;
  for (const Pair& pair : pairs) {
    const ScheduledWork& work = step.work[static_cast<std::size_t>(pair.work)];
    if (dense.first_page.try_emplace({pair.work, pair.head / group_size}, static_cast<std::int32_t>(num_pages)).second) {
      const std::int32_t num_tokens = work.first + work.count;
      pieces.push_back({pair.work, pair.head / group_size, num_tokens, num_pages * kPageSize});
      num_pages += (num_tokens + kPageSize - 1) / kPageSize;
    }
  }
  const std::int64_t slots = num_pages * kPageSize;
  dense.k.assign(static_cast<std::size_t>(bytes_of(layers_.kv_dtype, slots * model.head_dim_qk)), std::byte{0xff});
  dense.v.assign(static_cast<std::size_t>(bytes_of(layers_.kv_dtype, slots * model.head_dim_vo)), std::byte{0xff});
  dense.cache = {.k = TensorView::contiguous(dense.k.data(), layers_.kv_dtype, {num_pages, kPageSize, 1, model.head_dim_qk}),
                 .v = TensorView::contiguous(dense.v.data(), layers_.kv_dtype, {num_pages, kPageSize, 1, model.head_dim_vo})};
  if (layers_.kv_quant() != KvQuant::none) {
    dense.cache.k_scale = dense.cache.v_scale = layers_.kv_scale();
  }
  const Values keys(layers_.seed, Tensor::k, layer), values(layers_.seed, Tensor::v, layer);
  tbb::parallel_for(std::size_t{0}, pieces.size(), [&](std::size_t i) {
    const Piece& piece = pieces[i];
    const ServedRequest& request = requests_[static_cast<std::size_t>(step.work[static_cast<std::size_t>(piece.work)].request)];
    const auto count = static_cast<std::size_t>(piece.num_tokens);
    const auto dim_qk = static_cast<std::size_t>(model.head_dim_qk), dim_vo = static_cast<std::size_t>(model.head_dim_vo);
    if (layers_.kv_dtype == DType::bf16) {  // as they are made
      auto* const k = reinterpret_cast<std::uint16_t*>(dense.k.data()) + static_cast<std::size_t>(piece.first_slot) * dim_qk;
      auto* const v = reinterpret_cast<std::uint16_t*>(dense.v.data()) + static_cast<std::size_t>(piece.first_slot) * dim_vo;
      for (std::size_t token = 0; token < count; ++token) {
        const std::uint64_t hash = request.token_hash(static_cast<std::int32_t>(token));
        keys.fill(hash, piece.kv_head, {k + token * dim_qk, dim_qk});
        values.fill(hash, piece.kv_head, {v + token * dim_vo, dim_vo});
      }
      return;
    }
    std::vector<std::uint16_t> k(count * dim_qk), v(count * dim_vo);
    std::vector<std::int64_t> slot_mapping(count);
    for (std::size_t token = 0; token < count; ++token) {
      const std::uint64_t hash = request.token_hash(static_cast<std::int32_t>(token));
      keys.fill(hash, piece.kv_head, std::span(k).subspan(token * dim_qk, dim_qk));
      values.fill(hash, piece.kv_head, std::span(v).subspan(token * dim_vo, dim_vo));
      slot_mapping[token] = piece.first_slot + static_cast<std::int64_t>(token);
    }
    engine_.append_kv({.k = TensorView::contiguous(k.data(), DType::bf16, {piece.num_tokens, 1, model.head_dim_qk}),
                       .v = TensorView::contiguous(v.data(), DType::bf16, {piece.num_tokens, 1, model.head_dim_vo}),
                       .cache = dense.cache,
                       .kv_quant = layers_.kv_quant(),
                       .slot_mapping = TensorView::of(slot_mapping)});
  });
}

ReferenceCheck::Expected ReferenceCheck::expected_of(const Step& step, std::int32_t layer, std::span<const Pair> pairs,
                                                     const Dense& dense) const {
  const Model& model = layers_.model;
  const std::int32_t head = pairs.front().head;
  const auto count = static_cast<std::int64_t>(pairs.size());
  const auto dim_qk = static_cast<std::size_t>(model.head_dim_qk);
  // Every pair is a request of one query token, which ends at that token.
  std::vector<std::int32_t> qo_indptr(pairs.size() + 1), page_indptr{0}, page_indices, kv_len;
  std::iota(qo_indptr.begin(), qo_indptr.end(), 0);
  std::vector<std::uint16_t> q(pairs.size() * dim_qk);
  const Values queries(layers_.seed, Tensor::q, layer);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const ScheduledWork& work = step.work[static_cast<std::size_t>(pairs[i].work)];
    const std::int32_t position = work.first + pairs[i].row;
    queries.fill(requests_[static_cast<std::size_t>(work.request)].token_hash(position), head, std::span(q).subspan(i * dim_qk, dim_qk));
    const std::int32_t first_page = dense.first_page.at({pairs[i].work, head / (model.num_qo_heads / model.num_kv_heads)});
    for (std::int32_t page = 0; page <= position / kPageSize; ++page) {
      page_indices.push_back(first_page + page);
    }
    page_indptr.push_back(static_cast<std::int32_t>(page_indices.size()));
    kv_len.push_back(position + 1);
  }
  const KvTables tables{
      .page_indptr = TensorView::of(page_indptr), .page_indices = TensorView::of(page_indices), .kv_len = TensorView::of(kv_len)};
  const std::vector<Value> mask_values = layers_.mask_values(layers_.window_of(layer));
  const MaskValues mask{.values = mask_values};
  std::vector<float> sink;
  if (model.sink) {
    sink = {sinks_[static_cast<std::size_t>(head)]};
  }
  Plan plan = attention_.new_plan();
  attention_.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}}, {.masks = {&mask, 1}});

  Expected expected{.o = std::vector<float>(pairs.size() * static_cast<std::size_t>(model.head_dim_vo)), .weight_norm = {}};
  // With logits twice as large weights are squared: sum of w^2 = e^(lse of doubled logits - 2 lse).
  std::vector<float> lse(pairs.size()), doubled_lse(pairs.size()), doubled_o(expected.o.size());
  const auto run = [&](double factor, std::vector<float>& o, std::vector<float>& its_lse) {
    std::vector<Value> params;
    if (model.soft_cap) {
      params.emplace_back("cap", factor * *model.soft_cap);
    }
    if (model.sink) {
      params.emplace_back("sink", TensorView::contiguous(sink.data(), DType::f32, {1}));
    }
    const double scale = model.sm_scale.value_or(1 / std::sqrt(static_cast<double>(model.head_dim_qk)));
    attention_.run(plan, {.q = TensorView::contiguous(q.data(), DType::bf16, {count, 1, model.head_dim_qk}),
                          .kv = {&dense.cache, 1},
                          .o = TensorView::contiguous(o.data(), DType::f32, {count, 1, model.head_dim_vo}),
                          .lse = TensorView::contiguous(its_lse.data(), DType::f32, {count, 1}),
                          .params = params,
                          .sm_scale = static_cast<float>(factor * scale),
                          .lse_with_extra = factor == 1});
  };
  run(1, expected.o, lse);
  run(2, doubled_o, doubled_lse);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    expected.weight_norm.push_back(std::exp(0.5 * doubled_lse[i] - lse[i]));
  }
  return expected;
}

/// Of pairs of one head.
CheckOutcome ReferenceCheck::compare(const Step& step, std::int32_t layer, std::span<const Pair> pairs, const Expected& expected,
                                     std::span<const std::uint16_t> o) const {
  const auto dim = static_cast<std::size_t>(layers_.model.head_dim_vo), heads = static_cast<std::size_t>(layers_.model.num_qo_heads);
  std::vector<std::size_t> first_row;
  std::size_t num_rows = 0;
  for (const ScheduledWork& work : step.work) {
    first_row.push_back(num_rows);
    num_rows += static_cast<std::size_t>(work.count);
  }
  CheckOutcome outcome{.pairs = static_cast<std::int64_t>(pairs.size()), .first = {}};
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const std::size_t row = first_row[static_cast<std::size_t>(pairs[i].work)] + static_cast<std::size_t>(pairs[i].row);
    const std::span<const std::uint16_t> actual = o.subspan((row * heads + static_cast<std::size_t>(pairs[i].head)) * dim, dim);
    const double bound = kFloat + weight_rounding(expected.weight_norm[i]);
    double worst = 0;
    std::size_t worst_at = 0;
    for (std::size_t d = 0; d < dim; ++d) {
      const double wanted = expected.o[i * dim + d];
      const double ratio = std::fabs(float_of(actual[d]) - wanted) / (ulp_bf16(wanted) + bound);
      if (!(ratio <= worst)) {  // NaN counts as infinitely wrong
        worst = std::isnan(ratio) ? HUGE_VAL : ratio;
        worst_at = d;
      }
    }
    outcome.worst = std::max(outcome.worst, worst);
    if (worst > 1 && outcome.wrong++ == 0) {
      const ScheduledWork& work = step.work[static_cast<std::size_t>(pairs[i].work)];
      outcome.first =
          fmt::format("step {}, layer {}, request {}, token {}, head {}, element {}: {:.7g} instead of {:.7g}, {:.3g} of the bound",
                      step.index, layer, work.request, work.first + pairs[i].row, pairs[i].head, worst_at, float_of(actual[worst_at]),
                      expected.o[i * dim + worst_at], worst);
    }
  }
  return outcome;
}

CheckOutcome ReferenceCheck::check(const Step& step, std::int32_t layer, std::span<const std::uint16_t> o) const {
  const std::vector<Pair> pairs = pick(step, layer);
  Dense dense;
  make_dense(step, layer, pairs, dense);
  std::vector<std::span<const Pair>> heads;
  for (std::size_t begin = 0, end = 0; begin < pairs.size(); begin = end) {
    while (end < pairs.size() && pairs[end].head == pairs[begin].head) {
      ++end;
    }
    heads.push_back(std::span(pairs).subspan(begin, end - begin));
  }
  std::vector<CheckOutcome> outcomes(heads.size());
  tbb::parallel_for(std::size_t{0}, heads.size(),
                    [&](std::size_t i) { outcomes[i] = compare(step, layer, heads[i], expected_of(step, layer, heads[i], dense), o); });
  CheckOutcome total;
  for (const CheckOutcome& outcome : outcomes) {
    total.pairs += outcome.pairs;
    total.wrong += outcome.wrong;
    total.worst = std::max(total.worst, outcome.worst);
    if (total.first.empty()) {
      total.first = outcome.first;
    }
  }
  return total;
}

}  // namespace fovea::serving
