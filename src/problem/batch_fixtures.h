// Test support: one right step of each kind of batch, for tests to spoil.
#pragma once

#include <vector>

#include "src/problem/problem.h"

namespace fovea::test {

using Ints = std::vector<std::int32_t>;

/// A step of any formats. Tensors are views of the arrays beside them, so that changing a number needs no more than that.
struct Step {
  AttentionSpec spec{.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64};
  Limits limits{.max_requests = 8, .max_query_tokens = 16, .max_kv_tokens_per_request = 64};
  Ints qo_indptr, kv_len, q_pos;
  std::vector<KvTables> kv;
  Batch batch;
  std::vector<std::uint64_t> seen_rows = std::vector<std::uint64_t>(4);

  Step() = default;
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  BatchView check() {
    batch.kv = kv;
    return check_batch(check_problem(spec, limits, {}), batch, Device{}, seen_rows.data());
  }
};

/// Four requests, CSR tables of pages of 4 tokens, 8, 5, 2 and 7 tokens long.
struct CsrStep : Step {
  Ints page_indptr{0, 2, 4, 5, 7}, page_indices{9, 8, 7, 6, 5, 4, 3}, last_page_len{4, 1, 2, 3};
  CsrStep() {
    spec.formats = {KvFormat::paged(4)};
    qo_indptr = {0, 1, 2, 4, 5};
    kv_len = {8, 5, 2, 7};
    q_pos = {7, 4, 0, 6};
    batch.qo_indptr = TensorView::of(qo_indptr);
    kv = {KvTables::csr(TensorView::of(page_indptr), TensorView::of(page_indices), TensorView::of(last_page_len))};
  }
};

/// The same requests with 2-D tables: 6 rows of 3 entries, of which 4 are used.
struct TableStep : Step {
  Ints page_table = Ints(18), table_rows{5, 0, 2, 1};
  TableStep() {
    spec.formats = {KvFormat::paged(4)};
    qo_indptr = {0, 1, 2, 4, 5};
    kv_len = {8, 5, 2, 7};
    batch.qo_indptr = TensorView::of(qo_indptr);
    kv = {KvTables::table_2d(TensorView::contiguous(page_table.data(), DType::i32, {6, 3}), TensorView::of(kv_len))};
    kv[0].table_rows = TensorView::of(table_rows);
  }
};

struct RaggedStep : Step {
  Ints token_indptr{0, 8, 13, 15, 22};
  RaggedStep() {
    spec.formats = {KvFormat::ragged()};
    qo_indptr = {0, 1, 2, 4, 5};
    batch.qo_indptr = TensorView::of(qo_indptr);
    kv = {KvTables::ragged(TensorView::of(token_indptr))};
  }
};

/// One request of 6 query tokens, row blocks of 4, blocks of 8 columns.
struct SparseStep : Step {
  Ints block_indptr{0, 3, 5}, block_indices{0, 2, 4, 1, 3};
  SparseStep() {
    spec.formats = {KvFormat::block_sparse(4, 8)};
    qo_indptr = {0, 6};
    kv_len = {40};
    batch.qo_indptr = TensorView::of(qo_indptr);
    batch.kv_len = TensorView::of(kv_len);
    kv = {KvTables::block_sparse(TensorView::of(block_indptr), TensorView::of(block_indices))};
  }
};

/// Four requests of one query token; the first two share a prefix of 8 tokens, the others one of 4; suffixes of 3, 1, 2 and 4 tokens.
struct SharedPrefixStep : Step {
  Ints row_indptr{0, 2, 4}, row_indices{0, 1, 2, 3}, prefix_indptr{0, 2, 3}, prefix_pages{1, 2, 3}, prefix_pos{0, 0};
  Ints suffix_indptr{0, 1, 2, 3, 4}, suffix_pages{4, 5, 6, 7}, suffix_last{3, 1, 2, 4}, suffix_pos{8, 8, 4, 4};
  SharedPrefixStep() {
    spec.formats = {KvFormat::paged(4), KvFormat::paged(4)};
    qo_indptr = {0, 1, 2, 3, 4};
    kv_len = {11, 9, 6, 8};
    batch.qo_indptr = TensorView::of(qo_indptr);
    kv = {KvTables::csr(TensorView::of(prefix_indptr), TensorView::of(prefix_pages), {}),
          KvTables::csr(TensorView::of(suffix_indptr), TensorView::of(suffix_pages), TensorView::of(suffix_last))};
    kv[0].row_indptr = TensorView::of(row_indptr);
  }
};

}  // namespace fovea::test
