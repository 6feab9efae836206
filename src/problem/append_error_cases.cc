#include <cstring>

#include "src/problem/append_fixtures.h"
#include "src/problem/error_cases.h"

namespace fovea::test {
namespace {

using S = AppendBySlot;
using R = AppendByRequest;
using W = AppendWithScales;

std::vector<ErrorCase> slot_cases() {
  return {
      wrong<S>("append_kv: k has 2 axes; it needs [tokens, num_kv_heads, head_dim]", [](S& s) { s.args.k.ndim = 2; }),
      wrong<S>("append_kv: v has dtype e4m3; it may be f32, f16 or bf16", [](S& s) { s.args.v.dtype = DType::e4m3; }),
      wrong<S>("append_kv: k has 5 tokens but v has 4", [](S& s) { s.args.v = s.args.v.slice(0, 0, 4); }),
      wrong<S>("append_kv: k has 2 heads but v has 1", [](S& s) { s.args.v = s.args.v.slice(1, 0, 1); }),
      wrong<S>("append_kv: k has 536870912 tokens; at most 536870911",
               [](S& s) { set_dim(s.args.k, 0, 1 << 29), set_dim(s.args.v, 0, 1 << 29); }),
      wrong<S>("append_kv: 2 heads of head_dim 2000 and 4; at most 32768 of 1024", [](S& s) { set_dim(s.args.k, 2, 2000); }),
      wrong<S>("append_kv: cache.k has 1 heads in axis 2; it needs num_kv_heads = 2",
               [](S& s) { s.args.cache.k = s.args.cache.k.slice(2, 0, 1); }),
      wrong<S>("append_kv: cache.v has head_dim 3 but it needs 4", [](S& s) { s.args.cache.v = s.args.cache.v.slice(3, 0, 3); }),
      wrong<S>("append_kv: cache.k has dtype i32; a cache is f32, f16, bf16, e4m3 or e5m2",
               [](S& s) { s.args.cache.k.dtype = DType::i32; }),
      wrong<S>("append_kv: cache.v is written but its elements overlap: stride 0 of axis 0 is less than 1",
               [](S& s) { set_stride(s.args.cache.v, 0, 0); }),
      wrong<S>("append_kv: cache.k has 6 pages of 4 tokens but cache.v has 6 of 2",
               [](S& s) { s.args.cache.v = s.args.cache.v.slice(1, 0, 2); }),
      wrong<S>("append_kv: cache.k has 0 tokens a page; it must be 1 to 536870911",
               [](S& s) { s.args.cache.k = s.args.cache.k.slice(1, 0, 0), s.args.cache.v = s.args.cache.v.slice(1, 0, 0); }),
      wrong<S>("append_kv: cache.k_scale = 0; new values are divided by it",
               [](S& s) { s.args.kv_quant = KvQuant::tensor, s.args.cache.k_scale = 0.0f; }),
      wrong<S>("append_kv: kv_quant is tensor but cache.k is f16 and cache.v is f16; scales go with an 8-bit cache",
               [](S& s) { s.args.kv_quant = KvQuant::tensor; }),
      wrong<S>("append_kv: cache.v_scale = 2 but kv_quant is none; scales need KvQuant::tensor, head or token",
               [](S& s) { s.args.cache.v_scale = 2.0f; }),
      wrong<S>("append_kv: kv_quant is number 4; it is none, tensor, head or token",
               [](S& s) { s.args.kv_quant = static_cast<KvQuant>(4); }),
      wrong<W>("append_kv: cache.k_scale is written but its elements overlap: stride 0 of axis 0 is less than 1",
               [](W& w) { set_stride(w.args.cache.k_scale.tensor, 0, 0); }),
      wrong<W>("append_kv: cache.v_scale overlaps k in memory; what is written must lie apart",
               [](W& w) { w.args.cache.v_scale.tensor.data = w.k.data(); }),
      wrong<W>("append_kv: cache.k_scale and cache.v_scale are the same memory; K and V have scales of their own",
               [](W& w) { w.args.cache.v_scale = w.args.cache.k_scale; }),
      wrong<S>("append_kv: neither of slot_mapping and append_indptr; give one", [](S& s) { s.args.slot_mapping = {}; }),
      wrong<S>("append_kv: both slot_mapping and append_indptr; give one", [](S& s) { s.args.append_indptr = s.args.slot_mapping; }),
      wrong<S>("append_kv: tables is given with slot_mapping, which needs none",
               [](S& s) { s.args.tables.table_rows = s.args.slot_mapping; }),
      wrong<S>("append_kv: cache.k overlaps k in memory; what is written must lie apart",
               [](S& s) { s.args.k.data = s.args.cache.k.data; }),
      wrong<S>("append_kv: cache.k overlaps slot_mapping in memory; what is written must lie apart",
               [](S& s) { s.args.slot_mapping = TensorView::contiguous(s.k_cache.data() + 4, DType::i64, {5}); }),
      wrong<W>("append_kv: cache.v_scale overlaps slot_mapping in memory; what is written must lie apart",
               [](W& w) { w.args.slot_mapping = TensorView::contiguous(w.scales.data() + 60, DType::i32, {5}); }),
      wrong<R>("append_kv: cache.v overlaps tables.kv_len in memory; what is written must lie apart",
               [](R& r) {
                 const std::int32_t lengths[] = {6, 3, 4};
                 std::memcpy(r.v_cache.data(), lengths, sizeof lengths);
                 r.args.tables.kv_len = TensorView::contiguous(r.v_cache.data(), DType::i32, {3});
               }),
      wrong<S>("append_kv: cache.k overlaps v in memory; what is written must lie apart",
               [](S& s) { s.args.v.data = s.args.cache.k.data; }),
      wrong<S>("append_kv: slot_mapping has dtype f32; it may be i32 or i64", [](S& s) { s.args.slot_mapping.dtype = DType::f32; }),
      wrong<S>("append_kv: slot_mapping has 4 entries; it needs 5", [](S& s) { s.args.slot_mapping = s.args.slot_mapping.slice(0, 0, 4); }),
      wrong<S>("append_kv: slot_mapping[3] = 24; the cache has 24 slots", [](S& s) { s.slots[3] = 24; }),
  };
}

std::vector<ErrorCase> request_cases() {
  return {
      wrong<R>("append_kv: append_indptr[2] = 1 is less than append_indptr[1] = 2; it must not decrease",
               [](R& r) { r.append_indptr[2] = 1; }),
      wrong<R>("append_kv: append_indptr has 0 entries; it needs num_requests + 1",
               [](R& r) { r.args.append_indptr = r.args.append_indptr.slice(0, 0, 0); }),
      wrong<R>("append_kv: append_indptr ends at 4 but k has 5 tokens", [](R& r) { r.append_indptr[3] = 4; }),
      wrong<R>("append_kv: tables has row_indptr, row_indices, kv_pos or kv_pos_stride; appending has no use for them",
               [](R& r) { r.args.tables.kv_pos_stride = 2; }),
      wrong<R>("append_kv: tables needs either page_indptr and page_indices, or page_table", [](R& r) { r.args.tables.page_indices = {}; }),
      wrong<R>("append_kv: tables.table_rows goes with tables.page_table", [](R& r) { r.args.tables.table_rows = r.args.append_indptr; }),
      wrong<R>("append_kv: tables has both last_page_len and kv_len; give one",
               [](R& r) { r.args.tables.last_page_len = r.args.tables.kv_len; }),
      wrong<R>("append_kv: tables.page_table needs tables.kv_len, and no last_page_len",
               [](R& r) { r.use_table(), r.args.tables.kv_len = {}; }),
      wrong<R>("append_kv: tables.page_indptr has 3 entries; it needs 4",
               [](R& r) { r.args.tables.page_indptr = r.args.tables.page_indptr.slice(0, 0, 3); }),
      wrong<R>("append_kv: tables.page_indices has 5 entries but tables.page_indptr ends at 6", [](R& r) { r.page_indptr[3] = 6; }),
      wrong<R>("append_kv: tables.page_table has row stride -2; it must not be negative",
               [](R& r) { r.use_table(), set_stride(r.args.tables.page_table, 0, -2); }),
      wrong<R>("append_kv: request 1 has row 4 of tables.page_table, which has 3",
               [](R& r) { r.use_table(), r.args.tables.table_rows = TensorView::of(r.table_rows), r.table_rows[1] = 4; }),
      wrong<R>("append_kv: tables.last_page_len[1] = 9; it must be 1 to 4",
               [](R& r) {
                 r.args.tables.last_page_len = r.args.tables.kv_len, r.args.tables.kv_len = {}, r.kv_len = {2, 9, 1};
               }),
      wrong<R>("append_kv: request 0 has 9 tokens after the append; its 2 pages hold 8", [](R& r) { r.kv_len[0] = 9; }),
      wrong<R>("append_kv: request 2 appends 3 tokens but has 2 after the append; kv_len counts the new ones",
               [](R& r) { r.kv_len[2] = 2; }),
      wrong<R>("append_kv: request 0 appends to page 6, its entry 1; the cache has 6 pages", [](R& r) { r.page_indices[1] = 6; }),
      wrong<R>("append_kv: request 2 appends to page -1, its entry 0; the cache has 6 pages", [](R& r) { r.page_indices[3] = -1; }),
  };
}

}  // namespace

std::vector<ErrorCase> append_error_cases() {
  std::vector<ErrorCase> cases = slot_cases();
  const std::vector<ErrorCase> more = request_cases();
  cases.insert(cases.end(), more.begin(), more.end());
  return cases;
}

}  // namespace fovea::test
