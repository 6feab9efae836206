// AttentionSpec: what stays the same for a whole model. Batch: what changes every step.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/tensor.h"
#include "fovea/variant.h"

namespace fovea {

/// Scales of a quantised cache. The logits a variant sees are those of the dequantised keys.
enum class KvQuant : std::uint8_t {
  none,
  tensor,  // one scale                  f32 [1] or a host number
  head,    // one per kv head            f32 [num_kv_heads]
  token,   // one per (token, kv head)   f32, shaped like the cache without its last axis
};

/// Where the KV of one format lies. Compile-time facts only; the tables are in Batch, the tensors in RunArgs.
struct KvFormat {
  std::int32_t page_size = 1;  // tokens per table entry; for a block-sparse matrix the columns of a block
  bool has_table = true;       // false: ragged, a request's tokens are adjacent
  bool by_index = false;       // a column's position is its storage index (block-sparse matrices); false: its place in the table
  bool per_kv_head = false;    // every (request, kv head) has a table row of its own
  std::int32_t block_rows =
      0;  // > 0: row groups are blocks of this many query tokens (block-sparse matrices); 0: groups are requests, or given

  static KvFormat paged(std::int32_t page_size) { return {.page_size = page_size}; }
  static KvFormat ragged() { return {.has_table = false}; }
  static KvFormat block_sparse(std::int32_t block_rows, std::int32_t block_cols) {
    return {.page_size = block_cols, .by_index = true, .block_rows = block_rows};
  }
  friend bool operator==(const KvFormat&, const KvFormat&) = default;
};

/// One attention layer's shape, fixed per model.
struct AttentionSpec {
  std::int32_t num_qo_heads = 0;
  std::int32_t num_kv_heads = 0;  // divides num_qo_heads
  std::int32_t head_dim_qk = 0;
  std::int32_t head_dim_vo = 0;  // 0: head_dim_qk
  DType q_dtype = DType::bf16;
  DType k_dtype = DType::bf16;
  DType v_dtype = DType::bf16;
  DType o_dtype = DType::bf16;  // f32, f16 or bf16
  KvQuant kv_quant = KvQuant::none;
  Variant variant;
  std::vector<KvFormat> formats = {KvFormat::paged(16)};  // more than one: every row's attention is the exact merge over all of them

  std::string to_string() const;
};

/// Tables of one format for one step. All integers are i32. Page ids (`page_indices`, `page_table`) are on the engine's device and are read
/// by run() (a plan keeps their addresses, never their contents): they must stay valid until the last run of the plan. All others are read
/// by plan(), and are on the host or on the engine's device: see Batch.
/// A group is a set of rows that share columns: request i, unless `row_indptr` (or KvFormat::block_rows) says otherwise.
struct KvTables {
  // CSR: group i's entries are page_indices[page_indptr[i] .. page_indptr[i + 1]). Ragged: page_indptr counts tokens and there are no
  // indices.
  TensorView page_indptr;   // [num_groups + 1]
  TensorView page_indices;  // [>= page_indptr[num_groups]] pages
  // or 2-D: group i's entries are the start of page_table[table_rows ? table_rows[i] : i].
  TensorView page_table;  // [rows, width], any row stride, innermost stride 1
  TensorView table_rows;  // [num_groups], optional
  // Tokens per group: one of the two. Needed with 2-D tables; CSR without either means full pages. Ragged takes neither.
  TensorView last_page_len;  // [num_groups], 1..page_size (ignored where a group has no pages)
  TensorView kv_len;         // [num_groups] tokens

  // Ragged, with page_indptr on the device: no more than so many tokens, which K and V of every run hold.
  std::int64_t ragged_tokens = 0;

  // Rows, when groups are not the requests: group i has rows row_indptr[i] .. row_indptr[i + 1], of the batch or of `row_indices`. A row is
  // in one group of a format; in exactly one when there is one format.
  TensorView row_indptr;   // [num_row_sets + 1], optional
  TensorView row_indices;  // [row_indptr[num_row_sets]] query tokens, optional: rows that are not adjacent

  // Positions: column c of group i stands at kv_pos[i] + c * kv_pos_stride (by_index: kv_pos[i] + index * kv_pos_stride).
  TensorView kv_pos;  // [num_groups], optional, >= 0; default: where the formats before this one end (0 for the first), if they say so
  std::int32_t kv_pos_stride = 1;

  static KvTables csr(const TensorView& page_indptr, const TensorView& page_indices, const TensorView& last_page_len) {
    return {.page_indptr = page_indptr, .page_indices = page_indices, .last_page_len = last_page_len};
  }
  static KvTables table_2d(const TensorView& page_table, const TensorView& kv_len) { return {.page_table = page_table, .kv_len = kv_len}; }
  static KvTables ragged(const TensorView& kv_token_indptr) { return {.page_indptr = kv_token_indptr}; }
  /// Row block i holds the blocks block_indices[block_indptr[i] .. block_indptr[i + 1]), in any order, none twice.
  static KvTables block_sparse(const TensorView& block_indptr, const TensorView& block_indices) {
    return {.page_indptr = block_indptr, .page_indices = block_indices};
  }
};

/// One step's requests. Its integers, those of its tables too, are all on the host, or all on the engine's device (qo_indptr says which).
///
/// On a GPU's memory, plan() launches a planner there: the same plan, from lengths that the host needn't know; it may be captured into a
/// graph, whose every replay plans anew. Then extents are bounds: entries behind the last request's are not read. Values are checked where
/// they are read: a request or group with one outside its bounds has no columns (o = 0, lse = -inf); a batch whose qo_indptr, row_indptr,
/// row_indices or num_requests make no sense is planned as an empty one. Engine::status() says what was found.
struct Batch {
  TensorView qo_indptr;          // i32 [num_requests + 1]: first query token of each request
  std::span<const KvTables> kv;  // one per AttentionSpec::formats, in that order; borrowed during plan()
  TensorView kv_len;             // i32 [num_requests], optional: tokens of the whole request; default: the sum over its formats. Needed
                                 // with by_index formats, and where formats don't say: rows by `row_indices`, a request's rows in
                                 // several groups, tables per head of different lengths
  TensorView q_pos;              // i32 [num_requests], optional: position of the first query token; default kv_len - qo_len

  // With integers on the device:
  TensorView num_requests;            // i32 [1], optional: how many of qo_indptr's requests there are; default: all
  std::int32_t max_query_tokens = 0;  // what qo_indptr may end at, and rows of q and o in every run; 0: limits.max_query_tokens
};

}  // namespace fovea
