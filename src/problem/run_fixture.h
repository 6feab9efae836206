// Test support: one right run, for tests to spoil.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "src/problem/problem.h"

namespace fovea::test {

/// 4 query tokens of 8 heads, 2 kv heads, q and k of 64 and v of 32 elements; an e4m3 cache of 10 pages of 4 tokens with one scale each.
struct RunCall {
  AttentionSpec spec{.num_qo_heads = 8,
                     .num_kv_heads = 2,
                     .head_dim_qk = 64,
                     .head_dim_vo = 32,
                     .k_dtype = DType::e4m3,
                     .v_dtype = DType::e4m3,
                     .o_dtype = DType::f32,
                     .kv_quant = KvQuant::tensor,
                     .formats = {KvFormat::paged(4)}};
  // lse and v are longer than their views, so that an o that is put on them reaches no other.
  std::vector<std::uint16_t> q = std::vector<std::uint16_t>(4 * 8 * 64);
  std::vector<float> o = std::vector<float>(4 * 8 * 32), lse = std::vector<float>(2048), scales = std::vector<float>(128);
  std::vector<std::uint8_t> k = std::vector<std::uint8_t>(10 * 4 * 2 * 64), v = std::vector<std::uint8_t>(8192);
  std::vector<std::int32_t> table = std::vector<std::int32_t>(16);
  std::vector<KvCache> caches;
  PlannedBatch planned{.num_query_tokens = 4};
  RunArgs args;
  KernelParams params{};

  RunCall() {
    KvCache cache;
    cache.k = TensorView::contiguous(k.data(), DType::e4m3, {10, 4, 2, 64});
    cache.v = TensorView::contiguous(v.data(), DType::e4m3, {10, 4, 2, 32});
    cache.k_scale = 0.5f;
    cache.v_scale = 0.25f;
    caches = {cache};
    planned.tables[0] = table.data();
    planned.page_ids[0] = TensorView::of(table);
    planned.kv_pos_strides[0] = 1;
    args.q = TensorView::contiguous(q.data(), DType::bf16, {4, 8, 64});
    args.o = TensorView::contiguous(o.data(), DType::f32, {4, 8, 32});
    args.lse = TensorView::contiguous(lse.data(), DType::f32, {4, 8});
  }
  RunCall(const RunCall&) = delete;
  RunCall& operator=(const RunCall&) = delete;

  Scale scale_tensor(std::initializer_list<std::int64_t> shape) { return TensorView::contiguous(scales.data(), DType::f32, shape); }
  void make_ragged() {
    spec.formats = {KvFormat::ragged()};
    caches[0].k = caches[0].k.select(1, 0);
    caches[0].v = caches[0].v.select(1, 0);
    planned.tables[0] = nullptr;
    planned.page_ids[0] = {};
  }
  /// As much of a built-in variant as check_run() asks for.
  VariantInfo variant() const {
    VariantInfo variant{{}, spec.variant.name, {}};
    variant.use_softmax = spec.variant.name.find("sigmoid") == std::string::npos;
    return variant;
  }
  void check() {
    args.kv = caches;
    check_run(check_problem(spec, {}, {}), variant(), planned, args, Device{}, params);
  }
};

}  // namespace fovea::test
