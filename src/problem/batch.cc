// check_batch: one step's lengths and tables. Reads every length once, no page ids; loops over requests are branch-free where all is well
// and look for the culprit only when it is not.
#include <algorithm>
#include <cstring>

#include "src/problem/batch_check.h"

namespace fovea {
namespace {

constexpr Device kHost{};  // of all that plan() reads; only page ids are the device's

/// An optional i32 vector with `count` entries; null when not given.
const std::int32_t* optional_vector(const Argument& name, const TensorView& tensor, std::int64_t count) {
  if (!tensor.defined()) {
    return nullptr;
  }
  check_vector(name, tensor, DType::i32, count, kHost);
  return tensor.as<const std::int32_t>();
}

void check_requests(BatchCheck& check) {
  const Limits& limits = check.problem.limits;
  const Argument name = check.argument("qo_indptr");
  check_any_vector(name, check.batch.qo_indptr, DType::i32, kHost);
  const std::int64_t num_requests = check.batch.qo_indptr.dim(0) - 1;
  FOVEA_CHECK(num_requests >= 0, "plan: qo_indptr has no entries; it needs num_requests + 1");
  FOVEA_CHECK(num_requests <= limits.max_requests, "plan: {} requests are over limits.max_requests = {}", num_requests,
              limits.max_requests);
  const std::int32_t n = static_cast<std::int32_t>(num_requests);
  const std::int32_t* indptr = check.batch.qo_indptr.as<const std::int32_t>();
  check_indptr(name, indptr, n);
  FOVEA_CHECK(indptr[n] <= limits.max_query_tokens, "plan: {} query tokens are over limits.max_query_tokens = {}", indptr[n],
              limits.max_query_tokens);
  std::int32_t longest = 0;
  for (std::int32_t r = 0; r < n; ++r) {
    longest = max_(longest, indptr[r + 1] - indptr[r]);
  }
  for (std::int32_t r = 0; longest > limits.max_query_tokens_per_request && r < n; ++r) {
    FOVEA_CHECK(indptr[r + 1] - indptr[r] <= limits.max_query_tokens_per_request,
                "plan: request {} has {} query tokens, over limits.max_query_tokens_per_request = {}", r, indptr[r + 1] - indptr[r],
                limits.max_query_tokens_per_request);
  }
  FOVEA_CHECK(!check.batch.num_requests.defined(),
              "plan: num_requests is given but lengths are on the host, where qo_indptr says it: {}; it goes with lengths on the device",
              n);
  FOVEA_CHECK(check.batch.max_query_tokens == 0 || indptr[n] <= check.batch.max_query_tokens,
              "plan: qo_indptr ends at {}, over the batch's max_query_tokens = {}", indptr[n], check.batch.max_query_tokens);
  check.view.qo_indptr = indptr;
  check.view.num_requests = n;
  check.num_query_tokens = indptr[n];
  check.view.kv_len = optional_vector(check.argument("kv_len"), check.batch.kv_len, n);
  check.view.q_pos = optional_vector(check.argument("q_pos"), check.batch.q_pos, n);
}

/// `row_indptr` of format i: its number of sets and its values. Returns how many places its sets have.
void check_row_sets(BatchCheck& check, std::int32_t i, FormatView& f) {
  const KvTables& tables = check.tables(i);
  const Argument name = check.argument(i, "row_indptr");
  check_any_vector(name, tables.row_indptr, DType::i32, kHost);
  FOVEA_CHECK(f.block_rows == 0, "plan: kv[{}].row_indptr is given but formats[{}].block_rows = {} says what the rows of a group are", i, i,
              f.block_rows);
  const std::int64_t num_sets = tables.row_indptr.dim(0) - 1;
  FOVEA_CHECK(num_sets >= 0 && num_sets <= check.problem.limits.max_row_groups,
              "plan: kv[{}].row_indptr has {} entries; it needs 1 to limits.max_row_groups + 1 = {}", i, num_sets + 1,
              check.problem.limits.max_row_groups + 1);
  f.num_row_sets = static_cast<std::int32_t>(num_sets);
  f.row_indptr = tables.row_indptr.as<const std::int32_t>();
  check_indptr(name, f.row_indptr, f.num_row_sets);
  const std::int32_t rows = f.row_indptr[f.num_row_sets];
  FOVEA_CHECK(rows <= check.num_query_tokens,
              "plan: kv[{}].row_indptr ends at {} but the batch has {} query tokens; a row is in one group at most", i, rows,
              check.num_query_tokens);
  FOVEA_CHECK(check.problem.composed() || rows == check.num_query_tokens,
              "plan: kv[{}].row_indptr ends at {} but the batch has {} query tokens; with one format every row is in a group", i, rows,
              check.num_query_tokens);
}

void check_row_indices(BatchCheck& check, std::int32_t i, FormatView& f) {
  const TensorView& tensor = check.tables(i).row_indices;
  FOVEA_CHECK(f.row_indptr != nullptr, "plan: kv[{}].row_indices is given without kv[{}].row_indptr", i, i);
  check_any_vector(check.argument(i, "row_indices"), tensor, DType::i32, kHost);
  const std::int32_t rows = f.row_indptr[f.num_row_sets];
  FOVEA_CHECK(tensor.dim(0) >= rows, "plan: kv[{}].row_indices has {} entries but kv[{}].row_indptr ends at {}", i, tensor.dim(0), i, rows);
  f.row_indices = tensor.as<const std::int32_t>();
  std::memset(check.seen_rows, 0, sizeof(std::uint64_t) * static_cast<std::size_t>(ceil_div(check.num_query_tokens, 64)));
  for (std::int32_t j = 0; j < rows; ++j) {
    const std::int32_t row = f.row_indices[j];
    FOVEA_CHECK(0 <= row && row < check.num_query_tokens, "plan: kv[{}].row_indices[{}] = {}; the batch has query tokens 0 to {}", i, j,
                row, check.num_query_tokens - 1);
    std::uint64_t& word = check.seen_rows[row / 64];
    const std::uint64_t bit = std::uint64_t{1} << (row % 64);
    FOVEA_CHECK((word & bit) == 0, "plan: kv[{}].row_indices[{}] = {} is there twice; a row is in one group of a format", i, j, row);
    word |= bit;
  }
}

void check_rows(BatchCheck& check, std::int32_t i, FormatView& f) {
  f.first_row_ref = -1;
  if (check.tables(i).row_indptr.defined()) {
    check_row_sets(check, i, f);
  } else {
    f.num_row_sets = f.block_rows > 0 ? ceil_div(check.num_query_tokens, f.block_rows) : check.view.num_requests;
  }
  if (check.tables(i).row_indices.defined()) {
    check_row_indices(check, i, f);
  }
  const std::int64_t groups = std::int64_t{f.num_row_sets} * f.heads_per_set + check.num_groups;
  FOVEA_CHECK(groups <= check.problem.limits.max_row_groups, "plan: {} row groups up to kv[{}] are over limits.max_row_groups = {}", groups,
              i, check.problem.limits.max_row_groups);
}

void check_csr(BatchCheck& check, std::int32_t i, FormatView& f, std::int32_t groups) {
  const KvTables& t = check.tables(i);
  const Argument name = check.argument(i, "page_indptr");
  check_vector(name, t.page_indptr, DType::i32, std::int64_t{groups} + 1, kHost);
  f.page_indptr = t.page_indptr.as<const std::int32_t>();
  check_indptr(name, f.page_indptr, groups);
  if (f.has_table) {
    check_any_vector(check.argument(i, "page_indices"), t.page_indices, DType::i32, check.device);
    FOVEA_CHECK(t.page_indices.dim(0) >= f.page_indptr[groups],
                "plan: kv[{}].page_indices has {} entries but kv[{}].page_indptr ends at {}", i, t.page_indices.dim(0), i,
                f.page_indptr[groups]);
  }
  f.last_page_len = optional_vector(check.argument(i, "last_page_len"), t.last_page_len, groups);
  for (std::int32_t g = 0; f.last_page_len != nullptr && g < groups; ++g) {
    FOVEA_CHECK((1 <= f.last_page_len[g] && f.last_page_len[g] <= f.page_size) || f.page_indptr[g] == f.page_indptr[g + 1],
                "plan: kv[{}].last_page_len[{}] = {}; it must be 1 to page_size = {}", i, g, f.last_page_len[g], f.page_size);
  }
}

void check_table_2d(BatchCheck& check, std::int32_t i, FormatView& f, std::int32_t groups) {
  const KvTables& t = check.tables(i);
  const Argument name = check.argument(i, "page_table");
  check_tensor(name, t.page_table, 2, "[rows, width]", check.device);
  check_dtype(name, t.page_table, DType::i32);
  check_innermost(name, t.page_table);
  const std::int64_t rows = t.page_table.dim(0);
  FOVEA_CHECK(rows <= 1 || t.page_table.stride(0) >= 0, "plan: kv[{}].page_table has row stride {}; it must not be negative", i,
              t.page_table.stride(0));
  f.table_row_stride = rows <= 1 ? t.page_table.dim(1) : t.page_table.stride(0);
  f.table_rows = optional_vector(check.argument(i, "table_rows"), t.table_rows, groups);
  FOVEA_CHECK(f.table_rows != nullptr || rows >= groups, "plan: kv[{}].page_table has {} rows for {} groups; give more, or table_rows", i,
              rows, groups);
  for (std::int32_t g = 0; f.table_rows != nullptr && g < groups; ++g) {
    FOVEA_CHECK(0 <= f.table_rows[g] && f.table_rows[g] < rows, "plan: kv[{}].table_rows[{}] = {}; kv[{}].page_table has rows 0 to {}", i,
                g, f.table_rows[g], i, rows - 1);
  }
}

/// Table entries group g has room for.
std::int64_t entries_of(const BatchCheck& check, std::int32_t i, const FormatView& f, std::int32_t g) {
  return f.page_indptr != nullptr ? f.page_indptr[g + 1] - f.page_indptr[g] : check.tables(i).page_table.dim(1);
}

/// kv_len of format i: not negative, and inside the tables.
void check_kv_len(BatchCheck& check, std::int32_t i, FormatView& f, std::int32_t groups) {
  f.kv_len = optional_vector(check.argument(i, "kv_len"), check.tables(i).kv_len, groups);
  for (std::int32_t g = 0; f.kv_len != nullptr && g < groups; ++g) {
    FOVEA_CHECK(f.kv_len[g] >= 0, "plan: kv[{}].kv_len[{}] = {}; it must not be negative", i, g, f.kv_len[g]);
    FOVEA_CHECK(f.kv_len[g] <= entries_of(check, i, f, g) * f.page_size,
                "plan: kv[{}].kv_len[{}] = {} does not fit the {} pages of {} tokens it has", i, g, f.kv_len[g], entries_of(check, i, f, g),
                f.page_size);
  }
}

void check_tokens(BatchCheck& check, std::int32_t i, const FormatView& f, std::int32_t groups) {
  const std::int64_t limit = check.problem.limits.max_kv_tokens_per_request;
  std::int64_t longest = 0;
  std::int64_t total = 0;
  for (std::int32_t g = 0; g < groups; ++g) {
    const std::int64_t tokens = wide_tokens_of(f, g);
    longest = max_(longest, tokens);
    total += tokens;
  }
  for (std::int32_t g = 0; longest > limit && g < groups; ++g) {
    FOVEA_CHECK(wide_tokens_of(f, g) <= limit, "plan: group {} of kv[{}] has {} tokens, over limits.max_kv_tokens_per_request = {}", g, i,
                wide_tokens_of(f, g), limit);
  }
  (f.heads_per_set > 1 ? check.head_columns : check.shared_columns) += total;
  const std::int64_t columns = check.shared_columns + ceil_div<std::int64_t>(check.head_columns, check.problem.spec.num_kv_heads);
  FOVEA_CHECK(columns <= check.problem.limits.max_kv_tokens, "plan: the groups up to kv[{}] have {} tokens, over limits.max_kv_tokens = {}",
              i, columns, check.problem.limits.max_kv_tokens);
}

/// The first request some of whose rows are in another set of `f` than its first, or in none: such a format doesn't say how many tokens a
/// request has. -1: there is none. (Not for formats with row_indices.)
std::int32_t request_cut_by(const BatchCheck& check, const FormatView& f) {
  for (std::int32_t set = 0; !sets_are_requests(f) && set < f.num_row_sets; ++set) {
    std::int32_t begin = 0, end = 0;
    rows_of_set(check.view, f, set, begin, end);  // sets are adjacent, from row 0 on: a request is cut where one ends inside it
    if (end < check.num_query_tokens) {
      const std::int32_t request = request_of_row(check.view, end);
      if (check.view.qo_indptr[request] < end) {
        return request;
      }
    }
  }
  return -1;
}

void check_format_tables(BatchCheck& check, std::int32_t i) {
  const KvFormat& format = check.format(i);
  FormatView& f = check.view.formats[i];
  f.page_size = format.page_size;
  f.block_rows = format.block_rows;
  f.heads_per_set = format.per_kv_head ? check.problem.spec.num_kv_heads : 1;
  f.has_table = format.has_table;
  f.by_index = format.by_index;
  f.kv_pos_stride = check.tables(i).kv_pos_stride;
  check_table_form(check.problem, check.batch, i);
  check_rows(check, i, f);
  const std::int32_t groups = f.num_groups();
  if (check.tables(i).page_table.defined()) {
    check_table_2d(check, i, f, groups);
  } else {
    check_csr(check, i, f, groups);
  }
  check_kv_len(check, i, f, groups);
  check_tokens(check, i, f, groups);
  f.kv_pos = optional_vector(check.argument(i, "kv_pos"), check.tables(i).kv_pos, groups);
  f.first_group = check.num_groups;
  check.num_groups += groups;
  check.cut_requests[i] = f.row_indices != nullptr ? -1 : request_cut_by(check, f);
}

/// RowRefs of each format stand behind those of the formats before it.
void place_row_refs(BatchCheck& check) {
  std::int32_t next = 0;
  for (std::int32_t i = 0; i < check.view.num_formats; ++i) {
    FormatView& f = check.view.formats[i];
    if (!sets_are_requests(f)) {
      f.first_row_ref = next;
      next += f.row_indptr != nullptr ? f.row_indptr[f.num_row_sets] : check.num_query_tokens;
    }
  }
}

}  // namespace

void check_table_form(const Problem& problem, const Batch& batch, std::int32_t i) {
  const KvTables& t = batch.kv[static_cast<std::size_t>(i)];
  const bool csr = t.page_indptr.defined() || t.page_indices.defined();
  if (!problem.spec.formats[static_cast<std::size_t>(i)].has_table) {
    FOVEA_CHECK(t.page_indptr.defined(), "plan: kv[{}].page_indptr is not given; a ragged format needs it, in tokens", i);
    FOVEA_CHECK(!t.page_indices.defined() && !t.page_table.defined(), "plan: kv[{}] has page ids but formats[{}] is ragged", i, i);
    FOVEA_CHECK(!t.last_page_len.defined() && !t.kv_len.defined(),
                "plan: kv[{}] has last_page_len or kv_len but formats[{}] is ragged; kv[{}].page_indptr says how many tokens there are", i,
                i, i);
  } else {
    FOVEA_CHECK(csr || t.page_table.defined(), "plan: kv[{}] has no tables; give page_indptr and page_indices, or page_table and kv_len",
                i);
    FOVEA_CHECK(!csr || !t.page_table.defined(), "plan: kv[{}] has both page_indptr/page_indices and page_table; give one form", i);
    FOVEA_CHECK(!csr || (t.page_indptr.defined() && t.page_indices.defined()),
                "plan: kv[{}] has one of page_indptr and page_indices; tables need both", i);
    FOVEA_CHECK(csr || t.kv_len.defined(), "plan: kv[{}].kv_len is not given; page_table needs it", i);
    FOVEA_CHECK(csr || !t.last_page_len.defined(), "plan: kv[{}].last_page_len goes with page_indptr; with page_table give kv_len alone",
                i);
    FOVEA_CHECK(!t.last_page_len.defined() || !t.kv_len.defined(), "plan: kv[{}] has both last_page_len and kv_len; give one", i);
  }
  FOVEA_CHECK(!t.table_rows.defined() || t.page_table.defined(), "plan: kv[{}].table_rows is given without kv[{}].page_table", i, i);
}

BatchView check_batch(const Problem& problem, const Batch& batch, Device device, std::uint64_t* seen_rows) {
  BatchCheck check{.problem = problem, .batch = batch, .device = device, .seen_rows = seen_rows};
  check_requests(check);
  FOVEA_CHECK(batch.kv.size() == problem.spec.formats.size(), "plan: kv has {} tables but the spec has {} formats", batch.kv.size(),
              problem.spec.formats.size());
  check.view.num_formats = static_cast<std::int32_t>(batch.kv.size());
  for (std::int32_t i = 0; i < check.view.num_formats; ++i) {
    check_format_tables(check, i);
  }
  check_positions(check);
  place_row_refs(check);
  return check.view;
}

bool shares_rows(const BatchView& view) {
  return std::any_of(view.formats, view.formats + view.num_formats,
                     [](const FormatView& f) { return f.row_indptr != nullptr || f.block_rows > 0; });
}

PlannedBatch planned_batch(const BatchView& view, const Batch& batch) {
  PlannedBatch planned{.num_query_tokens = view.qo_indptr[view.num_requests], .shares_rows = shares_rows(view)};
  for (std::int32_t i = 0; i < view.num_formats; ++i) {
    const KvTables& tables = batch.kv[static_cast<std::size_t>(i)];
    const FormatView& f = view.formats[i];
    planned.page_ids[i] = tables.page_table.defined() ? tables.page_table : tables.page_indices;
    planned.tables[i] = planned.page_ids[i].as<const std::int32_t>();
    planned.ragged_tokens[i] = f.has_table ? 0 : f.page_indptr[f.num_groups()];
    planned.kv_pos_strides[i] = f.kv_pos_stride;
  }
  return planned;
}

}  // namespace fovea
