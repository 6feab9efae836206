// Runs every built-in variant on one small batch, on every backend, and prints inputs and results as JSON: what formulas_test.py compares
// with numpy. The batch is ragged; requests have one token, several, and more queries than keys.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "fovea/fovea.h"

namespace {

using namespace fovea;
using Json = nlohmann::json;

constexpr int kHeads = 6, kKvHeads = 2, kDim = 16;
const std::vector<std::int32_t> kQoIndptr{0, 5, 6, 26, 29};
const std::vector<std::int32_t> kKvIndptr{0, 37, 107, 187, 189};

/// Numbers that every machine makes alike, in [-1.5, 1.5].
std::vector<float> numbers(std::size_t count, std::uint32_t state) {
  std::vector<float> values(count);
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) * (3.0f / (1 << 24)) - 1.5f;
  }
  return values;
}

/// A mask or params by name; tables own their numbers.
struct Arguments {
  Json json = Json::object();
  std::vector<std::pair<std::string, std::vector<std::int32_t>>> ints;
  std::vector<std::pair<std::string, std::vector<float>>> floats;
  std::vector<std::pair<std::string, std::vector<std::uint8_t>>> bytes;
  std::vector<std::pair<std::string, double>> scalars;
  int table_columns = 0;  // of float tables with two dimensions

  Arguments& number(const std::string& name, double value) {
    json[name] = value;
    scalars.emplace_back(name, value);
    return *this;
  }
  Arguments& table(const std::string& name, std::vector<std::int32_t> values) {
    json[name] = values;
    ints.emplace_back(name, std::move(values));
    return *this;
  }
  Arguments& table(const std::string& name, std::vector<float> values, int columns = 0) {
    json[name] = values;
    table_columns = columns;
    floats.emplace_back(name, std::move(values));
    return *this;
  }
  Arguments& bits(const std::string& name, std::vector<std::uint8_t> values) {
    json[name] = values;
    bytes.emplace_back(name, std::move(values));
    return *this;
  }
  std::vector<Value> values() {
    std::vector<Value> all;
    for (const auto& [name, number] : scalars) {
      all.emplace_back(name, number);
    }
    for (auto& [name, list] : ints) {
      all.emplace_back(name, TensorView::of(list));
    }
    for (auto& [name, list] : floats) {
      const std::int64_t columns = table_columns > 0 ? table_columns : static_cast<std::int64_t>(list.size());
      const std::int64_t rows = static_cast<std::int64_t>(list.size()) / columns;
      all.emplace_back(name, table_columns > 0 ? TensorView::contiguous(list.data(), DType::f32, {rows, columns})
                                               : TensorView::contiguous(list.data(), DType::f32, {columns}));
    }
    for (auto& [name, list] : bytes) {
      all.emplace_back(name, TensorView::contiguous(list.data(), DType::u8, {static_cast<std::int64_t>(list.size())}));
    }
    return all;
  }
};

struct NamedCase {
  std::string variant;
  Arguments mask = {}, params = {};
};

Arguments documents() {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < kKvIndptr.back(); ++i) {
    ids.push_back(i % 100 < 50 ? i / 9 : (i * 7) % 3);
  }
  return Arguments().table("document_ids", ids).table("document_indptr", kKvIndptr);
}

Arguments tree_bits() {
  std::vector<std::int32_t> indptr{0};
  for (std::size_t r = 0; r + 1 < kQoIndptr.size(); ++r) {
    const std::int32_t bits = (kQoIndptr[r + 1] - kQoIndptr[r]) * (kKvIndptr[r + 1] - kKvIndptr[r]);
    indptr.push_back(indptr.back() + (bits + 7) / 8);
  }
  std::vector<std::uint8_t> bytes;
  for (const float number : numbers(static_cast<std::size_t>(indptr.back()), 5)) {
    bytes.push_back(static_cast<std::uint8_t>(std::fabs(number) * 170));
  }
  return Arguments().bits("mask_bits", bytes).table("mask_indptr", indptr);
}

Arguments rope_table(int columns) {
  std::vector<float> cos_sin;
  for (int position = 0; position < 60; ++position) {  // shorter than a request: positions past the end turn like the last
    for (int i = 0; i < columns; ++i) {
      const double angle = position * std::pow(100.0, -2.0 * (i % (columns / 2)) / columns);
      cos_sin.push_back(static_cast<float>(i < columns / 2 ? std::cos(angle) : std::sin(angle)));
    }
  }
  return Arguments().table("cos_sin", cos_sin, columns);
}

Arguments llama() {
  return Arguments()
      .number("theta", 500000)
      .number("factor", 8)
      .number("low_freq_factor", 1)
      .number("high_freq_factor", 4)
      .number("original_context", 64);
}

std::vector<NamedCase> all_cases() {
  const Arguments window = Arguments().number("window_left", 7);
  const Arguments window_and_sinks = Arguments().number("window_left", 7).number("num_sink_tokens", 3);
  const Arguments sinks = Arguments().table("sink", std::vector<float>{-1.0f, 0.5f, 2.0f, 0.0f, 1.5f, -3.0f});
  const Arguments slopes = Arguments().table("slopes", std::vector<float>{0.5f, 0.25f, 0.125f, 0.0625f, 0.03125f, 0.0f});
  const Arguments cap = Arguments().number("cap", 2.5);
  return {{"full"},
          {"causal"},
          {"sliding_window", window},
          {"sliding_window", window_and_sinks},
          {"chunked_local", Arguments().number("chunk_size", 16)},
          {"prefix_lm", Arguments().table("prefix_len", std::vector<std::int32_t>{10, 0, 75, 1})},
          {"document", documents()},
          {"custom_mask", tree_bits()},
          {"soft_cap", {}, cap},
          {"sink", {}, sinks},
          {"alibi", {}, slopes},
          {"temperature", {}, Arguments().number("temperature", 1.7)},
          {"temperature", {}, Arguments().number("position_scale", 0.3).number("position_step", 8)},
          {"sigmoid", {}, Arguments().number("bias", -1.25)},
          {"rope_neox", {}, rope_table(kDim)},
          {"rope_neox", {}, rope_table(kDim / 2)},
          {"rope_neox", {}, Arguments().number("rotary_dim", 12).number("factor", 4)},
          {"rope_neox", {}, llama()},
          {"rope_interleaved", {}, rope_table(kDim)},
          {"rope_interleaved", {}, llama()},
          {"causal+soft_cap", {}, cap},
          {"sliding_window+soft_cap", window, cap},
          {"causal+sink", {}, sinks},
          {"sliding_window+sink", window, sinks},
          {"causal+sigmoid"},
          {"causal+custom_mask", tree_bits()},
          {"causal+document", documents()},
          {"causal+alibi", {}, slopes},
          {"causal+rope_neox", {}, rope_table(kDim)}};
}

Json run(const std::string& backend, NamedCase& c, std::vector<float>& q, std::vector<float>& k, std::vector<float>& v) {
  const Engine engine({.backend = backend});
  const AttentionSpec spec{.num_qo_heads = kHeads,
                           .num_kv_heads = kKvHeads,
                           .head_dim_qk = kDim,
                           .q_dtype = DType::f32,
                           .k_dtype = DType::f32,
                           .v_dtype = DType::f32,
                           .o_dtype = DType::f32,
                           .variant = Variant(c.variant),
                           .formats = {KvFormat::ragged()}};
  const std::int64_t tokens = kQoIndptr.back(), kv_tokens = kKvIndptr.back();
  const Attention attention = engine.prepare(spec, {.max_requests = 4, .max_query_tokens = 32, .max_kv_tokens_per_request = 100});
  Plan plan = attention.new_plan();
  const KvTables tables = KvTables::ragged(TensorView::of(kKvIndptr));
  const std::vector<Value> mask = c.mask.values(), params = c.params.values();
  const MaskValues masks{.values = mask};
  attention.plan(plan, {.qo_indptr = TensorView::of(kQoIndptr), .kv = {&tables, 1}}, {.masks = {&masks, 1}});
  std::vector<float> o(q.size()), lse(static_cast<std::size_t>(tokens * kHeads));
  KvCache cache;
  cache.k = TensorView::contiguous(k.data(), DType::f32, {kv_tokens, kKvHeads, kDim});
  cache.v = TensorView::contiguous(v.data(), DType::f32, {kv_tokens, kKvHeads, kDim});
  const bool has_lse = c.variant.find("sigmoid") == std::string::npos;
  attention.run(plan, {.q = TensorView::contiguous(q.data(), DType::f32, {tokens, kHeads, kDim}),
                       .kv = {&cache, 1},
                       .o = TensorView::contiguous(o.data(), DType::f32, {tokens, kHeads, kDim}),
                       .lse = has_lse ? TensorView::contiguous(lse.data(), DType::f32, {tokens, kHeads}) : TensorView(),
                       .params = params});
  std::vector<double> finite_lse;  // JSON has no infinity
  for (const float x : lse) {
    finite_lse.push_back(std::isinf(x) ? -1e30 : double{x});
  }
  return {{"o", o}, {"lse", has_lse ? Json(finite_lse) : Json()}};
}

}  // namespace

int main() {
  std::vector<float> q = numbers(static_cast<std::size_t>(kQoIndptr.back() * kHeads * kDim), 1);
  std::vector<float> k = numbers(static_cast<std::size_t>(kKvIndptr.back() * kKvHeads * kDim), 2);
  std::vector<float> v = numbers(static_cast<std::size_t>(kKvIndptr.back() * kKvHeads * kDim), 3);
  Json cases = Json::array();
  for (NamedCase& c : all_cases()) {
    Json results = Json::object();
    for (const std::string backend : {"reference", "cpu"}) {
      results[backend] = run(backend, c, q, k, v);
    }
    cases.push_back({{"variant", c.variant}, {"mask", c.mask.json}, {"params", c.params.json}, {"results", results}});
  }
  std::vector<std::string> names;
  for (const VariantDescription& variant : Engine().variants()) {
    names.push_back(variant.name);
  }
  const Json all{
      {"heads", kHeads}, {"kv_heads", kKvHeads}, {"dim", kDim},   {"qo_indptr", kQoIndptr}, {"kv_indptr", kKvIndptr}, {"q", q}, {"k", k},
      {"v", v},          {"variants", names},    {"cases", cases}};
  std::printf("%s\n", all.dump().c_str());
  return 0;
}
