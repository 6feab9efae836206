// make_case(): shape, lengths, rule and policy of a case.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "check/case.h"
#include "check/draw_rule.h"
#include "check/formats.h"
#include "check/number.h"
#include "check/random.h"
#include "check/storage.h"

namespace fovea::check {
namespace {

void draw_dtypes(AttentionSpec& spec, Random& random, const std::optional<DType>& wanted) {
  const DType base = wanted && row_of(*wanted).bits > 8 ? *wanted : random.pick({DType::f32, DType::f32, DType::bf16, DType::f16});
  spec.q_dtype = spec.k_dtype = spec.v_dtype = spec.o_dtype = base;
  if (wanted) {
    spec.k_dtype = spec.v_dtype = *wanted;
    return;
  }
  if (random.percent(25)) {
    spec.k_dtype = spec.v_dtype = random.pick({DType::e4m3, DType::e5m2});
  }
  if (random.percent(15)) {
    spec.k_dtype = random.pick({DType::f32, DType::f16, DType::bf16, DType::e4m3, DType::e5m2});
    spec.v_dtype = random.pick({DType::f32, DType::f16, DType::bf16, DType::e4m3, DType::e5m2});
  }
  if (random.percent(15)) {
    spec.o_dtype = random.pick({DType::f32, DType::f16, DType::bf16});
  }
  if (random.percent(10)) {
    spec.q_dtype = random.pick({DType::e4m3, DType::e5m2});
  }
}

/// Long requests with many rows, which are cut into chunks: heads and dimensions are few, so that they stay cheap.
void draw_long_shape(AttentionSpec& spec, Random& random) {
  spec.num_kv_heads = random.between(1, 2);
  spec.num_qo_heads = spec.num_kv_heads * random.between(1, 2);
  spec.head_dim_qk = random.pick({8, 16, 24});
  spec.head_dim_vo = random.percent(65) ? spec.head_dim_qk : random.pick({8, 24});
}

void draw_shape(Case& c, Random& random, const CaseFilter& filter, bool long_kv) {
  AttentionSpec& spec = c.spec;
  spec.formats.clear();
  draw_dtypes(spec, random, filter.dtype);
  const bool eight_bits = row_of(spec.k_dtype).bits == 8 || row_of(spec.v_dtype).bits == 8;
  spec.kv_quant = eight_bits && random.percent(75) ? random.pick({KvQuant::tensor, KvQuant::head, KvQuant::token}) : KvQuant::none;
  spec.variant = filter.own ? Variant("full") : filter.variant.empty() ? Variant(random.pick(variant_names())) : Variant(filter.variant);

  // Query tokens before heads: what they cost together is bounded, so that 500 cases take seconds.
  const int num_requests = random.between(1, 6);
  const int kind = long_kv ? 3 : random.below(4);  // 0, 1: decode, 2: a few tokens each, 3: one long
  const int long_one = random.below(num_requests);
  for (int r = 0, begin = 0; r < num_requests; ++r) {
    DenseRequest request{.qo_begin = begin, .qo_len = 1};
    if (random.percent(8)) {
      request.qo_len = 0;
    } else if (kind == 2) {
      request.qo_len = random.between(1, 6);
    } else if (kind == 3) {
      request.qo_len = r == long_one ? random.between(2, long_kv ? 40 : 70) : random.between(1, 3);
    }
    begin += request.qo_len;
    c.requests.push_back(request);
    c.request_of_row.insert(c.request_of_row.end(), static_cast<std::size_t>(request.qo_len), r);
  }
  if (long_kv) {
    draw_long_shape(spec, random);
    return;
  }
  const int rows = std::max(1, c.num_rows());
  const int budget = random.percent(5) ? 4'000'000 : 1'200'000;
  for (int attempt = 0;; ++attempt) {
    spec.num_kv_heads = random.pick({1, 1, 2, 2, 3, 4});
    spec.num_qo_heads = spec.num_kv_heads * random.pick({1, 1, 2, 3, 4, 5, 7, 8, 16});
    spec.head_dim_qk = random.pick({8, 16, 24, 40, 64, 64, 72, 96, 128, 128, 176, 192, 256});
    spec.head_dim_vo = random.percent(65) ? spec.head_dim_qk : random.pick({8, 24, 64, 104, 128, 256});
    const int cost = rows * spec.num_qo_heads * (spec.head_dim_qk + spec.head_dim_vo) * 100;  // 100 tokens of KV
    if (cost <= budget || attempt == 50) {
      break;
    }
  }
}

void draw_positions(Case& c, Random& random) {
  const bool give = random.percent(20);
  std::vector<int> q_pos;
  for (DenseRequest& r : c.requests) {
    r.q_pos = give ? random.below(r.kv_len + 6) : r.kv_len - r.qo_len;
    q_pos.push_back(r.q_pos);
  }
  if (give) {
    c.batch.q_pos = c.memory.integers(q_pos);
    c.notes.push_back("q_pos");
  }
}

void draw_policy(Case& c, Random& random) {
  PrepareOptions& o = c.options;
  switch (random.below(10)) {
    case 0:
      o.policy = Policy::batch_invariant;
      break;
    case 1:
      o.policy = Policy::fixed_split;
      o.fixed_split = random.pick({64, 128, 256});
      break;
    case 2:
      o.max_workspace_bytes = random.pick({0, 1000, 100'000});
      break;
    default:
      break;
  }
  o.num_workers = random.percent(60) ? random.pick({1, 2, 3, 5, 7, 16, 64}) : 0;
}

void split_longest(Case& c, std::int32_t pieces) {
  constexpr int kTokens = 64;  // pieces are whole tiles
  int longest = 1;
  for (const DenseRequest& request : c.requests) {
    longest = std::max(longest, request.kv_len);
  }
  c.options.policy = Policy::fixed_split;
  c.options.fixed_split = ((longest + pieces - 1) / pieces + kTokens - 1) / kTokens * kTokens;
  c.options.max_workspace_bytes = PrepareOptions{}.max_workspace_bytes;
}

void set_limits(Case& c, Random& random) {
  Limits& l = c.limits;
  const auto slack = [&random](int exact) { return exact + (random.percent(50) ? random.below(40) : 0); };
  l.max_requests = slack(static_cast<int>(c.requests.size()));
  l.max_query_tokens = slack(std::max(1, c.num_rows()));
  int longest_q = 1, longest_kv = 1;
  std::int64_t total = 1;
  for (const DenseRequest& r : c.requests) {
    longest_q = std::max(longest_q, r.qo_len);
    longest_kv = std::max(longest_kv, r.kv_len);
  }
  for (const DenseGroup& g : c.groups) {
    longest_kv = std::max(longest_kv, static_cast<int>(g.tokens.size()));
    total += static_cast<std::int64_t>(g.tokens.size());
  }
  l.max_query_tokens_per_request = std::min(slack(longest_q), l.max_query_tokens);
  l.max_kv_tokens_per_request = slack(longest_kv);
  l.max_kv_tokens = total * 2 + std::int64_t{l.max_kv_tokens_per_request} * l.max_requests;
  l.max_row_groups = slack(static_cast<int>(c.groups.size()));
}

void draw_queries(Case& c, Random& random) {
  const AttentionSpec& spec = c.spec;
  c.run.q = padded_tensor(c.memory, random, spec.q_dtype, {c.num_rows(), spec.num_qo_heads, spec.head_dim_qk});
  c.run.q_scale = random.percent(20) ? static_cast<float>(random.uniform(0.5, 2.0)) : 1.0f;
  float sm_scale = 1.0f / std::sqrt(static_cast<float>(spec.head_dim_qk));
  if (random.percent(30)) {
    sm_scale *= static_cast<float>(random.uniform(0.5, 1.5));
    c.run.sm_scale = sm_scale;
  }
  // The factor on q . k is a float, a product of both; but queries that turn are dequantised first.
  c.sm_scale = c.rule.rope ? double{sm_scale} * double{c.run.q_scale} : double{sm_scale * c.run.q_scale};
  for (int row = 0; row < c.num_rows(); ++row) {
    for (int head = 0; head < spec.num_qo_heads; ++head) {
      for (int i = 0; i < spec.head_dim_qk; ++i) {
        const std::int64_t at = row * c.run.q.stride(0) + head * c.run.q.stride(1) + i;
        encode(spec.q_dtype, c.run.q.data, at, random.normal());
        c.q.push_back(decode(spec.q_dtype, c.run.q.data, at));
      }
    }
  }
}

void draw_output(Case& c, Random& random) {
  c.with_lse = c.rule.use_softmax() && random.percent(80);
  if (c.with_lse && random.percent(25)) {
    c.run.output = Output::states;
  }
  c.run.lse_base2 = c.with_lse && random.percent(20);
  c.run.lse_with_extra = c.with_lse && c.run.output == Output::finalised && !c.rule.sink.empty() && random.percent(40);
}

}  // namespace

void* Memory::take(std::int64_t bytes) {
  const std::size_t size = static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1));
  // Not make_unique: a vector of bytes would be initialised twice.
  blocks_.push_back({.bytes = std::unique_ptr<std::byte[]>(new std::byte[size]), .size = size});
  std::memset(blocks_.back().bytes.get(), 0xff, size);
  return blocks_.back().bytes.get();
}

TensorView Memory::integers(const std::vector<std::int32_t>& values) {
  void* memory = take(static_cast<std::int64_t>(values.size() * sizeof(std::int32_t)));
  std::copy(values.begin(), values.end(), static_cast<std::int32_t*>(memory));
  return TensorView::contiguous(memory, DType::i32, {static_cast<std::int64_t>(values.size())});
}

TensorView Memory::floats(const std::vector<float>& values) {
  void* memory = take(static_cast<std::int64_t>(values.size() * sizeof(float)));
  std::copy(values.begin(), values.end(), static_cast<float*>(memory));
  return TensorView::contiguous(memory, DType::f32, {static_cast<std::int64_t>(values.size())});
}

Case make_case(std::uint64_t seed, std::int64_t index, const CaseFilter& filter) {
  Random random(seed, static_cast<std::uint64_t>(index));
  Case c;
  c.seed = seed;
  c.index = index;
  const bool long_kv = random.percent(8);
  draw_shape(c, random, filter, long_kv);
  const int rows = std::max(1, c.num_rows());
  const int row_cost = rows * c.spec.num_qo_heads * (c.spec.head_dim_qk + c.spec.head_dim_vo);
  const Sizes sizes{.page_size = filter.page_size ? *filter.page_size : random.pick({1, 1, 2, 3, 5, 8, 16, 16, 32, 64}),
                    .max_kv = long_kv ? 2500 : std::clamp(1'500'000 / row_cost, 70, random.percent(20) ? 1500 : 300)};
  c.hidden_tokens_are_nan = random.percent(50);
  const BatchDraft draft = draw_batch(c, random, sizes, filter.format);
  draw_positions(c, random);
  draw_masks(c, random);
  draw_params(c, random);

  std::vector<int> qo_indptr{0};
  std::vector<int> kv_len;
  for (const DenseRequest& r : c.requests) {
    qo_indptr.push_back(qo_indptr.back() + r.qo_len);
    kv_len.push_back(r.kv_len);
  }
  c.batch.qo_indptr = c.memory.integers(qo_indptr);
  if (draft.give_kv_len) {
    c.batch.kv_len = c.memory.integers(kv_len);
  }
  c.notes.insert(c.notes.begin(), draft.kind + ":");
  for (const FormatDraft& format : draft.formats) {
    build_tables(c, random, format);
  }
  for (std::size_t f = 0; f < draft.formats.size(); ++f) {
    c.caches.push_back(store_pool(c, random, static_cast<int>(f), draft.formats[f].format));
  }
  c.batch.kv = c.tables;
  c.run.kv = c.caches;
  draw_queries(c, random);
  draw_output(c, random);
  draw_policy(c, random);
  if (filter.pieces) {
    split_longest(c, *filter.pieces);
  }
  set_limits(c, random);
  if (filter.own) {
    put_own_variant(c, *filter.own);
  } else {
    draw_tiles(c, random);
  }
  return c;
}

std::string Case::text() const {
  static constexpr const char* kQuants[] = {"none", "tensor", "head", "token"};
  static constexpr const char* kPolicies[] = {"throughput", "batch_invariant", "fixed_split"};
  std::vector<std::string> lengths;
  for (const DenseRequest& r : requests) {
    lengths.push_back(fmt::format("{}/{}", r.qo_len, r.kv_len));
  }
  std::string line = fmt::format("seed {} case {}: {} q {} k {} v {} o {} heads {}/{} dims {}/{} {} quant {}; qo/kv {}", seed, index,
                                 spec.variant.name, name_of(spec.q_dtype), name_of(spec.k_dtype), name_of(spec.v_dtype),
                                 name_of(spec.o_dtype), spec.num_qo_heads, spec.num_kv_heads, spec.head_dim_qk, spec.head_dim_vo,
                                 fmt::join(notes, " "), kQuants[static_cast<int>(spec.kv_quant)], fmt::join(lengths, " "));
  line += fmt::format("; {}{} workers {}", kPolicies[static_cast<int>(options.policy)],
                      options.policy == Policy::fixed_split ? fmt::format(" {}", options.fixed_split) : "", options.num_workers);
  if (options.max_workspace_bytes >= 0) {
    line += fmt::format(" workspace {}", options.max_workspace_bytes);
  }
  if (rule.window_left) {
    line += fmt::format(" window {} sink {}", *rule.window_left, rule.num_sink_tokens);
  }
  line += run.output == Output::states ? " states" : "";
  line += with_lse ? (run.lse_base2 ? " lse2" : " lse") : "";
  line += run.lse_with_extra ? " with extra" : "";
  line += masks.size() > 1 ? fmt::format(" mask {} of {}", run.mask_group, masks.size()) : "";
  return line;
}

}  // namespace fovea::check
