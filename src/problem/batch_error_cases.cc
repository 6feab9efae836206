#include "src/problem/batch_fixtures.h"
#include "src/problem/error_cases.h"

namespace fovea::test {
namespace {

std::vector<ErrorCase> request_cases() {
  using C = CsrStep;
  return {
      wrong<C>("plan: qo_indptr is not given; it needs one axis", [](C& c) { c.batch.qo_indptr = {}; }),
      wrong<C>("plan: qo_indptr has 2 axes; it needs one axis", [](C& c) { c.batch.qo_indptr.ndim = 2; }),
      wrong<C>("plan: qo_indptr has dtype i64; it needs i32", [](C& c) { c.batch.qo_indptr.dtype = DType::i64; }),
      wrong<C>("plan: qo_indptr has innermost stride 2; it must be 1", [](C& c) { set_stride(c.batch.qo_indptr, 0, 2); }),
      wrong<C>("plan: qo_indptr is on cuda:1 but the engine runs on cpu", [](C& c) { set_cuda(c.batch.qo_indptr); }),
      wrong<C>("plan: qo_indptr has elements but its data is null", [](C& c) { c.batch.qo_indptr.data = nullptr; }),
      wrong<C>("plan: shape[0] of qo_indptr is -1; extents are not negative", [](C& c) { set_dim(c.batch.qo_indptr, 0, -1); }),
      wrong<C>("plan: qo_indptr has no entries; it needs num_requests + 1", [](C& c) { set_dim(c.batch.qo_indptr, 0, 0); }),
      wrong<C>("plan: 4 requests are over limits.max_requests = 3", [](C& c) { c.limits.max_requests = 3; }),
      wrong<C>("plan: qo_indptr[0] = 1; it must be 0", [](C& c) { c.qo_indptr[0] = 1; }),
      wrong<C>("plan: qo_indptr[3] = 1 is less than qo_indptr[2] = 2; it must not decrease", [](C& c) { c.qo_indptr[3] = 1; }),
      wrong<C>("plan: 5 query tokens are over limits.max_query_tokens = 4", [](C& c) { c.limits.max_query_tokens = 4; }),
      wrong<C>("plan: request 2 has 2 query tokens, over limits.max_query_tokens_per_request = 1",
               [](C& c) { c.limits.max_query_tokens_per_request = 1; }),
      wrong<C>("plan: num_requests is given but lengths are on the host, where qo_indptr says it: 4; it goes with lengths on the device",
               [](C& c) { c.batch.num_requests = TensorView::of(c.kv_len).slice(0, 0, 1); }),
      wrong<C>("plan: qo_indptr ends at 5, over the batch's max_query_tokens = 4", [](C& c) { c.batch.max_query_tokens = 4; }),
      wrong<C>("plan: kv_len has 3 entries; it needs 4", [](C& c) { c.batch.kv_len = TensorView::of(c.kv_len).slice(0, 0, 3); }),
      wrong<C>("plan: q_pos has dtype f32; it needs i32",
               [](C& c) { c.batch.q_pos = TensorView::of(c.q_pos), c.batch.q_pos.dtype = DType::f32; }),
      wrong<C>("plan: kv_len[1] = 70; it must be 0 to limits.max_kv_tokens_per_request = 64",
               [](C& c) { c.batch.kv_len = TensorView::of(c.kv_len), c.kv_len[1] = 70; }),
      wrong<C>("plan: kv_len[3] = 6 but the tables of request 3 hold 7 tokens",
               [](C& c) { c.batch.kv_len = TensorView::of(c.kv_len), c.kv_len[3] = 6; }),
      wrong<C>("plan: q_pos[1] = -536870912; positions are between -536870912 and 536870912",
               [](C& c) { c.batch.q_pos = TensorView::of(c.q_pos), c.q_pos[1] = -(1 << 29); }),
      wrong<C>("plan: q_pos[2] = 536870910; positions are between -536870912 and 536870912",
               [](C& c) { c.batch.q_pos = TensorView::of(c.q_pos), c.q_pos[2] = (1 << 29) - 2; }),
      wrong<C>("plan: kv has 2 tables but the spec has 1 formats", [](C& c) { c.kv.resize(2); }),
  };
}

std::vector<ErrorCase> csr_cases() {
  using C = CsrStep;
  return {
      wrong<C>("plan: kv[0] has no tables; give page_indptr and page_indices, or page_table and kv_len", [](C& c) { c.kv[0] = {}; }),
      wrong<C>("plan: kv[0] has one of page_indptr and page_indices; tables need both", [](C& c) { c.kv[0].page_indices = {}; }),
      wrong<C>("plan: kv[0] has both last_page_len and kv_len; give one", [](C& c) { c.kv[0].kv_len = TensorView::of(c.kv_len); }),
      wrong<C>("plan: kv[0].table_rows is given without kv[0].page_table", [](C& c) { c.kv[0].table_rows = TensorView::of(c.kv_len); }),
      wrong<C>("plan: kv[0].page_indptr has 4 entries; it needs 5",
               [](C& c) { c.kv[0].page_indptr = TensorView::of(c.page_indptr).slice(0, 0, 4); }),
      wrong<C>("plan: kv[0].page_indptr[0] = -1; it must be 0", [](C& c) { c.page_indptr[0] = -1; }),
      wrong<C>("plan: kv[0].page_indptr[3] = 3 is less than kv[0].page_indptr[2] = 4; it must not decrease",
               [](C& c) { c.page_indptr[3] = 3; }),
      wrong<C>("plan: kv[0].page_indices has 7 entries but kv[0].page_indptr ends at 8", [](C& c) { c.page_indptr[4] = 8; }),
      wrong<C>("plan: kv[0].page_indices has dtype i64; it needs i32", [](C& c) { c.kv[0].page_indices.dtype = DType::i64; }),
      wrong<C>("plan: kv[0].last_page_len[1] = 0; it must be 1 to page_size = 4", [](C& c) { c.last_page_len[1] = 0; }),
      wrong<C>("plan: kv[0].last_page_len[3] = 5; it must be 1 to page_size = 4", [](C& c) { c.last_page_len[3] = 5; }),
      wrong<C>("plan: kv[0].kv_len[2] = 5 does not fit the 1 pages of 4 tokens it has",
               [](C& c) { c.kv[0].last_page_len = {}, c.kv[0].kv_len = TensorView::of(c.kv_len), c.kv_len[2] = 5; }),
      wrong<C>("plan: kv[0].kv_len[0] = -3; it must not be negative",
               [](C& c) { c.kv[0].last_page_len = {}, c.kv[0].kv_len = TensorView::of(c.kv_len), c.kv_len[0] = -3; }),
      wrong<C>("plan: group 0 of kv[0] has 8 tokens, over limits.max_kv_tokens_per_request = 7",
               [](C& c) { c.limits.max_kv_tokens_per_request = 7; }),
      wrong<C>("plan: the groups up to kv[0] have 22 tokens, over limits.max_kv_tokens = 21",
               [](C& c) { c.limits.max_kv_tokens = 21, c.limits.max_kv_tokens_per_request = 8; }),
      wrong<C>("plan: 4 row groups up to kv[0] are over limits.max_row_groups = 3", [](C& c) { c.limits.max_row_groups = 3; }),
      wrong<C>("plan: kv[0].kv_pos_stride = 0; it must be 1 to 536870911", [](C& c) { c.kv[0].kv_pos_stride = 0; }),
      wrong<C>("plan: kv[0].kv_pos[1] = -4; it must be 0 to 536870911",
               [](C& c) { c.kv[0].kv_pos = TensorView::of(c.kv_len), c.kv_len[1] = -4; }),
      wrong<C>("plan: group 0 of kv[0] reaches position 1400000000 in steps of 200000000; positions end at 536870912",
               [](C& c) { c.kv[0].kv_pos_stride = 200000000; }),
  };
}

std::vector<ErrorCase> table_and_ragged_cases() {
  using T = TableStep;
  using R = RaggedStep;
  return {
      wrong<T>("plan: kv[0] has both page_indptr/page_indices and page_table; give one form",
               [](T& t) { t.kv[0].page_indptr = TensorView::of(t.qo_indptr); }),
      wrong<T>("plan: kv[0].kv_len is not given; page_table needs it", [](T& t) { t.kv[0].kv_len = {}; }),
      wrong<T>("plan: kv[0].last_page_len goes with page_indptr; with page_table give kv_len alone",
               [](T& t) { t.kv[0].last_page_len = TensorView::of(t.kv_len); }),
      wrong<T>("plan: kv[0].page_table has 1 axes; it needs [rows, width]",
               [](T& t) { t.kv[0].page_table = TensorView::of(t.page_table); }),
      wrong<T>("plan: kv[0].page_table has row stride -3; it must not be negative", [](T& t) { set_stride(t.kv[0].page_table, 0, -3); }),
      wrong<T>("plan: kv[0].page_table has innermost stride 6; it must be 1",
               [](T& t) {
                 t.kv[0].page_table = TensorView::contiguous(t.page_table.data(), DType::i32, {3, 6}).permute({1, 0});
               }),
      wrong<T>("plan: axis 0 of kv[0].page_table spans 6 steps of 4611686018427387904 elements; offsets must fit 64 bits",
               [](T& t) { set_stride(t.kv[0].page_table, 0, std::int64_t{1} << 62); }),
      wrong<T>("plan: kv[0].page_table has 3 rows for 4 groups; give more, or table_rows",
               [](T& t) { t.kv[0].table_rows = {}, t.kv[0].page_table = t.kv[0].page_table.slice(0, 0, 3); }),
      wrong<T>("plan: kv[0].table_rows[2] = 6; kv[0].page_table has rows 0 to 5", [](T& t) { t.table_rows[2] = 6; }),
      wrong<T>("plan: kv[0].table_rows[0] = -1; kv[0].page_table has rows 0 to 5", [](T& t) { t.table_rows[0] = -1; }),
      wrong<T>("plan: kv[0].kv_len[3] = 13 does not fit the 3 pages of 4 tokens it has", [](T& t) { t.kv_len[3] = 13; }),
      wrong<R>("plan: kv[0].page_indptr is not given; a ragged format needs it, in tokens", [](R& r) { r.kv[0] = {}; }),
      wrong<R>("plan: kv[0] has page ids but formats[0] is ragged", [](R& r) { r.kv[0].page_indices = TensorView::of(r.qo_indptr); }),
      wrong<R>("plan: kv[0] has last_page_len or kv_len but formats[0] is ragged; kv[0].page_indptr says how many tokens there are",
               [](R& r) { r.kv[0].kv_len = TensorView::of(r.qo_indptr); }),
      wrong<R>("plan: kv[0].page_indptr[2] = 7 is less than kv[0].page_indptr[1] = 8; it must not decrease",
               [](R& r) { r.token_indptr[2] = 7; }),
  };
}

}  // namespace

std::vector<ErrorCase> batch_error_cases() {
  std::vector<ErrorCase> cases = request_cases();
  for (const auto& more : {csr_cases(), table_and_ragged_cases()}) {
    cases.insert(cases.end(), more.begin(), more.end());
  }
  return cases;
}

std::vector<ErrorCase> composed_error_cases() {
  using S = SharedPrefixStep;
  using B = SparseStep;
  using C = CsrStep;
  const auto listed = [](S& s) {
    s.kv[0].row_indices = TensorView::of(s.row_indices);
    s.batch.kv_len = TensorView::of(s.kv_len);
    s.kv[1].kv_pos = TensorView::of(s.suffix_pos);
  };
  static const auto list_rows = listed;
  return {
      wrong<B>("plan: kv_len is not given; it is needed because positions in kv[0] are storage indices", [](B& b) { b.batch.kv_len = {}; }),
      wrong<B>("plan: kv[0].row_indptr is given but formats[0].block_rows = 4 says what the rows of a group are",
               [](B& b) { b.kv[0].row_indptr = TensorView::of(b.qo_indptr); }),
      wrong<B>("plan: kv_len is not given; it is needed because the rows of request 0 are in several groups of kv[0]",
               [](B& b) { b.batch.kv_len = {}, b.spec.formats[0].by_index = false; }),
      wrong<C>("plan: kv[0].row_indptr ends at 4 but the batch has 5 query tokens; with one format every row is in a group",
               [](C& c) {
                 c.kv[0].row_indptr = TensorView::of(c.page_indptr), c.page_indptr = {0, 1, 2, 3, 4};
               }),
      wrong<S>("plan: kv[0].row_indptr ends at 5 but the batch has 4 query tokens; a row is in one group at most",
               [](S& s) { s.row_indptr[2] = 5; }),
      wrong<S>("plan: kv[0].row_indptr has 0 entries; it needs 1 to limits.max_row_groups + 1 = 17",
               [](S& s) { set_dim(s.kv[0].row_indptr, 0, 0); }),
      wrong<S>("plan: kv[1].row_indices is given without kv[1].row_indptr",
               [](S& s) { s.kv[1].row_indices = TensorView::of(s.row_indices); }),
      wrong<S>("plan: kv[0].row_indices has 3 entries but kv[0].row_indptr ends at 4",
               [](S& s) { s.kv[0].row_indices = TensorView::of(s.row_indices).slice(0, 0, 3); }),
      wrong<S>("plan: kv[0].row_indices[1] = 4; the batch has query tokens 0 to 3", [](S& s) { list_rows(s), s.row_indices[1] = 4; }),
      wrong<S>("plan: kv[0].row_indices[3] = 0 is there twice; a row is in one group of a format",
               [](S& s) { list_rows(s), s.row_indices[3] = 0; }),
      wrong<C>(
          "plan: kv_len is not given; it is needed because the heads of a row set of kv[0] differ in tokens, as group 3 does",
          [](C& c) { c.spec.formats[0].per_kv_head = true, c.batch.qo_indptr = c.batch.qo_indptr.slice(0, 0, 3), c.last_page_len[1] = 4; }),
      wrong<S>("plan: kv_len is not given; it is needed because kv[0] lists its rows by row_indices",
               [](S& s) { list_rows(s), s.batch.kv_len = {}; }),
      wrong<S>("plan: kv[1].kv_pos is not given; it is needed because kv[0] before it lists its rows by row_indices",
               [](S& s) { list_rows(s), s.kv[1].kv_pos = {}; }),
      wrong<S>("plan: kv[1].kv_pos is not given; it is needed because kv[0] before it has storage indices for positions",
               [](S& s) { s.spec.formats[0].by_index = true, s.batch.kv_len = TensorView::of(s.kv_len); }),
      wrong<S>("plan: kv[1].kv_pos is not given; it is needed because the rows of request 1 are in several groups of kv[0]",
               [](S& s) {
                 s.batch.kv_len = TensorView::of(s.kv_len), s.qo_indptr = {0, 1, 3, 3, 4};
               }),
      wrong<S>(
          "plan: kv[1].kv_pos is not given; it is needed because group 0 has rows of requests 0 and 1, which have 3 and 1 tokens before it",
          [](S& s) { std::swap(s.kv[0], s.kv[1]), std::swap(s.spec.formats[0], s.spec.formats[1]); }),
      wrong<S>("plan: kv[1].kv_pos is not given; it is needed because the heads of a row set of kv[0] differ in tokens, as group 1 does",
               [](S& s) {
                 s.spec.formats[0].per_kv_head = true;
                 s.kv[0].row_indptr = {};
                 s.qo_indptr = {0, 2, 4};
                 s.prefix_indptr = {0, 1, 3, 3, 3};
                 s.batch.qo_indptr = TensorView::of(s.qo_indptr);
                 s.batch.kv_len = TensorView::of(s.kv_len).slice(0, 0, 2);
                 s.kv[0].page_indptr = TensorView::of(s.prefix_indptr);
                 s.kv[1].page_indptr = s.kv[1].page_indptr.slice(0, 0, 3);
                 s.kv[1].last_page_len = s.kv[1].last_page_len.slice(0, 0, 2);
               }),
      wrong<S>("plan: request 0 has 11 tokens over all formats; limits.max_kv_tokens_per_request = 10",
               [](S& s) { s.limits.max_kv_tokens_per_request = 10; }),
      wrong<S>("plan: kv_len[0] = 10 but the tables of request 0 hold 11 tokens",
               [](S& s) { s.batch.kv_len = TensorView::of(s.kv_len), s.kv_len[0] = 10; }),
      wrong<S>("plan: kv[1].kv_pos has 2 entries; it needs 4", [](S& s) { s.kv[1].kv_pos = TensorView::of(s.prefix_pos); }),
  };
}

}  // namespace fovea::test
