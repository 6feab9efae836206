// append_kv: new tokens, by slot and by request, into caches of every dtype and layout. What both backends leave behind must agree; a
// refused call leaves the cache as it was.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "fovea/fovea.h"
#include "tests/fuzz/draw.h"
#include "tests/fuzz/targets.h"

namespace fovea::fuzz {
namespace {

struct AppendProblem {
  AppendArgs args;
  bool slots_differ = true;  // else what a slot holds afterwards is open
  Memory memory;
};

TensorView filled(Bytes& bytes, Memory& memory, DType dtype, std::initializer_list<std::int64_t> shape) {
  TensorView view = TensorView::contiguous(nullptr, dtype, shape);
  view.data = memory.take(bytes_of(dtype, view.numel()));
  fill(view, view.numel(), bytes.byte());
  return view;
}

TensorView make_slots(Bytes& bytes, AppendProblem& p, int tokens, int num_slots) {
  std::vector<std::int64_t> slots(static_cast<std::size_t>(tokens));
  std::set<std::int64_t> seen;
  int slot = bytes.byte();
  for (std::int64_t& value : slots) {
    slot += bytes.between(1, 3);
    value = bytes.rarely() ? bytes.integer() : bytes.below(16) == 15 ? -1 : slot % num_slots;
    p.slots_differ = p.slots_differ && (value < 0 || seen.insert(value).second);
  }
  if (bytes.below(2) == 0) {
    return p.memory.integers(std::vector<std::int32_t>(slots.begin(), slots.end()));
  }
  auto* place = static_cast<std::int64_t*>(p.memory.take(tokens * 8));
  std::copy(slots.begin(), slots.end(), place);
  return TensorView::contiguous(place, DType::i64, {tokens});
}

/// Tables of requests whose pages are all different, unless the fuzzer says otherwise.
void make_requests(Bytes& bytes, AppendProblem& p, const std::vector<std::int32_t>& appended, int page_size, int num_pages) {
  const int num_requests = static_cast<int>(appended.size()) - 1;
  std::vector<std::int32_t> pages{0}, ids, lengths;
  std::set<std::int32_t> seen;
  for (int r = 0; r < num_requests; ++r) {
    const int count = bytes.between(0, 4);
    for (int i = 0; i < count; ++i) {
      ids.push_back(bytes.or_anything(static_cast<std::int32_t>(ids.size()) % num_pages));
      p.slots_differ = p.slots_differ && seen.insert(ids.back()).second;
    }
    pages.push_back(static_cast<std::int32_t>(ids.size()));
    lengths.push_back(bytes.or_anything(bytes.below(count * page_size + 1)));
  }
  p.args.append_indptr = p.memory.integers(appended);
  p.args.tables.page_indptr = p.memory.integers(pages);
  p.args.tables.page_indices = p.memory.integers(ids);
  p.args.tables.kv_len = p.memory.integers(lengths);
}

AppendProblem make_append(Bytes& bytes) {
  AppendProblem p;
  const bool by_slot = bytes.below(2) == 0;
  const int heads = bytes.between(1, 3), page_size = bytes.pick({4, 1, 3, 16}), num_pages = bytes.between(1, 8);
  const int dim_k = bytes.pick({8, 1, 5, 40}), dim_v = bytes.pick({8, 3, 16});
  const std::vector<std::int32_t> appended = indptr(bytes, bytes.between(1, 3), 0, 4);
  const int tokens = by_slot ? bytes.between(0, 8) : std::clamp(appended.back(), 0, 32);
  const DType new_dtype = float_type(bytes, false), cache_dtype = float_type(bytes, true);
  p.args.k = filled(bytes, p.memory, new_dtype, {tokens, heads, dim_k});
  p.args.v = filled(bytes, p.memory, new_dtype, {tokens, bytes.rarely() ? heads + 1 : heads, dim_v});
  p.args.cache.layout = bytes.below(2) == 0 ? KvLayout::nhd : KvLayout::hnd;
  const bool nhd = p.args.cache.layout == KvLayout::nhd;
  const int axis1 = nhd ? page_size : heads, axis2 = nhd ? heads : page_size;
  p.args.cache.k = filled(bytes, p.memory, cache_dtype, {num_pages, axis1, axis2, dim_k});
  p.args.cache.v = filled(bytes, p.memory, cache_dtype, {bytes.rarely() ? num_pages + 1 : num_pages, axis1, axis2, dim_v});
  p.args.kv_quant = bytes.pick({KvQuant::none, KvQuant::tensor, KvQuant::head, KvQuant::token});
  if (p.args.kv_quant == KvQuant::tensor) {
    p.args.cache.k_scale = 0.5f;
    p.args.cache.v_scale = bytes.rarely() ? 0.0f : 2.0f;
  } else if (p.args.kv_quant == KvQuant::head) {
    p.args.cache.k_scale = filled(bytes, p.memory, DType::f32, {heads});
    p.args.cache.v_scale = filled(bytes, p.memory, DType::f32, {bytes.rarely() ? heads + 1 : heads});
  } else if (p.args.kv_quant == KvQuant::token) {
    p.args.cache.k_scale = filled(bytes, p.memory, DType::f32, {num_pages, axis1, axis2});
    p.args.cache.v_scale = filled(bytes, p.memory, DType::f32, {num_pages, axis1, axis2});
  }
  if (by_slot) {
    p.args.slot_mapping = make_slots(bytes, p, tokens, page_size * num_pages);
  } else {
    make_requests(bytes, p, appended, page_size, num_pages);
  }
  return p;
}

/// A dense tensor of the same shape and content.
TensorView copy_of(const TensorView& tensor, Memory& memory) {
  TensorView copy = tensor;
  if (tensor.defined()) {
    const std::int64_t num_bytes = bytes_of(tensor.dtype, tensor.numel());
    copy.data = std::memcpy(memory.take(num_bytes), tensor.data, static_cast<std::size_t>(num_bytes));
  }
  return copy;
}

/// What an append writes: the cache and, per token, its scales.
struct Written {
  TensorView k, v, k_scale, v_scale;
  std::optional<ErrorCode> refusal;
  std::string text = "accepts";
};

Written append(const Engine& engine, AppendProblem& p) {
  AppendArgs args = p.args;
  Written w{.k = copy_of(args.cache.k, p.memory),
            .v = copy_of(args.cache.v, p.memory),
            .k_scale = copy_of(args.cache.k_scale.tensor, p.memory),
            .v_scale = copy_of(args.cache.v_scale.tensor, p.memory)};
  args.cache.k = w.k;
  args.cache.v = w.v;
  args.cache.k_scale.tensor = w.k_scale;
  args.cache.v_scale.tensor = w.v_scale;
  try {
    engine.append_kv(args);
  } catch (const Error& error) {
    w.refusal = error.code();
    w.text = error.what();
  }
  return w;
}

void compare(const char* name, const TensorView& a, const TensorView& b) {
  // A quotient by a scale may fall on either side of a tie: neighbours in the cache's type pass, e5m2's are 1/4 apart.
  const double step = row_of(a.dtype).bits == 8 ? 0.26 : 0.01;
  for (std::int64_t i = 0; i < (a.defined() ? a.numel() : 0); ++i) {
    const double x = number_at(a, i), y = number_at(b, i);
    if (!(x == y || (std::isnan(x) && std::isnan(y)) || std::fabs(x - y) <= step * std::fabs(y))) {
      fail(std::string("append_kv: ") + name + " " + a.to_string() + "[" + std::to_string(i) + "] = " + std::to_string(x) + ", expected " +
           std::to_string(y));
    }
  }
}

void compare_all(const Written& a, const Written& b) {
  compare("cache.k", a.k, b.k);
  compare("cache.v", a.v, b.v);
  compare("k_scale", a.k_scale, b.k_scale);
  compare("v_scale", a.v_scale, b.v_scale);
}

}  // namespace

void check_append(Bytes& bytes) {
  AppendProblem p = make_append(bytes);
  const Written given = append(engines().cpu, p);
  const Written expected = append(engines().reference, p);
  if (given.refusal != expected.refusal || given.refusal == ErrorCode::internal) {
    fail("cpu, append_kv: " + given.text + "\nreference, append_kv: " + expected.text);
  }
  if (given.refusal) {
    compare_all(given,
                {.k = p.args.cache.k, .v = p.args.cache.v, .k_scale = p.args.cache.k_scale.tensor, .v_scale = p.args.cache.v_scale.tensor});
  } else if (p.slots_differ) {
    compare_all(given, expected);
  }
}

}  // namespace fovea::fuzz
