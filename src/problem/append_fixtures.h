// Test support: right appends, by slot and by request, and a right merge, for tests to spoil.
#pragma once

#include <vector>

#include "src/problem/problem.h"

namespace fovea::test {

/// 5 tokens of 2 heads, k of 8 and v of 4 elements, into an f16 cache of 6 pages of 4 tokens.
struct Append {
  std::vector<float> k = std::vector<float>(5 * 2 * 8), v = std::vector<float>(5 * 2 * 4);
  std::vector<std::uint16_t> k_cache = std::vector<std::uint16_t>(6 * 4 * 2 * 8), v_cache = std::vector<std::uint16_t>(6 * 4 * 2 * 4);
  AppendArgs args;

  Append() {
    args.k = TensorView::contiguous(k.data(), DType::f32, {5, 2, 8});
    args.v = TensorView::contiguous(v.data(), DType::f32, {5, 2, 4});
    args.cache.k = TensorView::contiguous(k_cache.data(), DType::f16, {6, 4, 2, 8});
    args.cache.v = TensorView::contiguous(v_cache.data(), DType::f16, {6, 4, 2, 4});
  }
  Append(const Append&) = delete;
  Append& operator=(const Append&) = delete;
  AppendParams check() const { return check_append(args, Device{}); }
};

struct AppendBySlot : Append {
  std::vector<std::int64_t> slots{23, 0, -1, 7, 5};
  AppendBySlot() { args.slot_mapping = TensorView::of(slots); }
};

/// The same into an e4m3 cache with a scale per token.
struct AppendWithScales : AppendBySlot {
  std::vector<float> scales = std::vector<float>(2 * 6 * 4 * 2);
  AppendWithScales() {
    args.kv_quant = KvQuant::token;
    args.cache.k.dtype = args.cache.v.dtype = DType::e4m3;
    args.cache.k_scale = TensorView::contiguous(scales.data(), DType::f32, {6, 4, 2});
    args.cache.v_scale = TensorView::contiguous(scales.data() + 48, DType::f32, {6, 4, 2});
  }
};

/// Three requests: 2 new tokens of 6, none of 3, 3 of 4.
struct AppendByRequest : Append {
  std::vector<std::int32_t> append_indptr{0, 2, 2, 5}, page_indptr{0, 2, 3, 5}, page_indices{99, 1, -99, 3, 4}, kv_len{6, 3, 4};
  std::vector<std::int32_t> page_table{99, 1, -99, 0, 3, 4}, table_rows{0, 1, 2};
  AppendByRequest() {
    args.append_indptr = TensorView::of(append_indptr);
    args.tables = {
        .page_indptr = TensorView::of(page_indptr), .page_indices = TensorView::of(page_indices), .kv_len = TensorView::of(kv_len)};
  }
  void use_table() {
    args.tables = KvTables::table_2d(TensorView::contiguous(page_table.data(), DType::i32, {3, 2}), TensorView::of(kv_len));
  }
};

/// Three states of 4 tokens, 2 heads, 8 elements.
struct Merge {
  std::vector<float> o = std::vector<float>(4 * 4 * 2 * 8), lse = std::vector<float>(4 * 4 * 2);
  std::vector<State> states;
  State out;

  Merge() {
    for (std::int64_t i = 0; i < 3; ++i) {
      states.push_back(state(i));
    }
    out = state(3);
  }
  Merge(const Merge&) = delete;
  Merge& operator=(const Merge&) = delete;
  State state(std::int64_t i) {
    return {TensorView::contiguous(o.data() + i * 64, DType::f32, {4, 2, 8}),
            TensorView::contiguous(lse.data() + i * 8, DType::f32, {4, 2})};
  }
  MergeStatesParams check() const { return check_merge_states(states, out, Device{}); }
};

}  // namespace fovea::test
