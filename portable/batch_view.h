// A batch as plain pointers, and how requests and row groups follow from it: one group at a time, so that a host loop and a thread block do
// the same. The host checks all values before they come here (src/problem/). Values that only a device can read are checked here, where
// they are read (`deferred`): what is wrong with a request or group leaves it without columns.
#pragma once

#include "portable/compat.h"
#include "portable/work.h"

namespace fovea {

/// One format of a batch. Null pointers mean what fovea/problem.h says of tensors not given.
struct FormatView {
  const int32_t* page_indptr;  // pages; ragged: tokens
  const int32_t* last_page_len;
  const int32_t* kv_len;
  const int32_t* table_rows;  // 2-D tables
  const int32_t* row_indptr;
  const int32_t* row_indices;
  const int32_t* kv_pos;
  int64_t table_row_stride;  // 2-D tables: entries from row to row, 0: all groups have the same; CSR, ragged: 0
  int32_t kv_pos_stride;
  int32_t page_size;
  int32_t block_rows;     // > 0: groups are blocks of query tokens
  int32_t num_row_sets;   // requests, given row sets, or row blocks
  int32_t heads_per_set;  // groups per row set: 1, or num_kv_heads with tables per head
  int32_t has_table, by_index;
  int32_t first_group;    // index of the format's first group in the plan
  int32_t first_row_ref;  // index of the format's first RowRef; -1: the format never needs any
  // Bounds of deferred checks; without them nothing reads these.
  int32_t deferred;
  int32_t num_table_rows;
  int32_t max_tokens;       // of a group
  int64_t num_entries;      // CSR: of the table; 2-D: of a row; ragged: tokens
  int64_t num_row_entries;  // of row_indices

  FOVEA_FN int32_t num_groups() const { return num_row_sets * heads_per_set; }
};

struct BatchView {
  const int32_t* qo_indptr;
  const int32_t* kv_len;  // may be null
  const int32_t* q_pos;   // may be null
  int32_t num_requests;
  int32_t num_formats;
  int32_t deferred;
  int32_t max_query_tokens, max_query_tokens_per_request, max_kv_tokens_per_request;  // of deferred checks
  FormatView formats[8];                                                              // kMaxFormats
};

inline constexpr int32_t kMaxPosition = 1 << 29;  // positions are inside +-this

/// What a deferred check found. The batch as a whole: it is planned as an empty one. A request or a group: it has no columns.
enum class BatchError : int32_t {
  none,
  num_requests,    // of the batch
  qo_indptr,       // of the batch
  row_indptr,      // of the batch
  row_indices,     // of the batch
  row_groups,      // of the batch: more than there is room for
  kv_tokens,       // of the batch: more than fixed splits have room for
  query_tokens,    // of a request: too many
  request_kv_len,  // of a request: not in its bounds
  request_tokens,  // of a request: its tables hold more than its kv_len, or more than the limit
  q_pos,           // of a request
  page_indptr,     // of a group, as all that follow
  last_page_len,
  kv_len,
  tokens,
  table_rows,
  kv_pos,
};

/// Is what the tables say of a group inside its bounds? (deferred)
FOVEA_FN BatchError error_of_tables(const FormatView& f, int32_t entry) {
  int64_t entries = f.num_entries;
  if (f.page_indptr != nullptr) {
    const int32_t begin = f.page_indptr[entry], end = f.page_indptr[entry + 1];
    if (begin < 0 || end < begin || end > f.num_entries) {
      return BatchError::page_indptr;
    }
    entries = end - begin;
  } else if (f.table_rows != nullptr && (f.table_rows[entry] < 0 || f.table_rows[entry] >= f.num_table_rows)) {
    return BatchError::table_rows;
  }
  int64_t tokens = entries * f.page_size;
  if (f.kv_len != nullptr) {
    if (f.kv_len[entry] < 0 || f.kv_len[entry] > tokens) {
      return BatchError::kv_len;
    }
    tokens = f.kv_len[entry];
  } else if (f.has_table && f.last_page_len != nullptr && entries > 0) {
    if (f.last_page_len[entry] < 1 || f.last_page_len[entry] > f.page_size) {
      return BatchError::last_page_len;
    }
    tokens = (entries - 1) * f.page_size + f.last_page_len[entry];
  } else if (!f.has_table) {
    tokens = entries;
  }
  return tokens > f.max_tokens ? BatchError::tokens : BatchError::none;
}

/// Tokens of a group. `entry` indexes tables: row set * heads_per_set + head.
FOVEA_FN int32_t tokens_of_group(const FormatView& f, int32_t entry) {
  if (f.deferred && error_of_tables(f, entry) != BatchError::none) {
    return 0;
  }
  if (f.kv_len != nullptr) {
    return f.kv_len[entry];
  }
  const int32_t entries = f.page_indptr[entry + 1] - f.page_indptr[entry];
  if (!f.has_table || entries == 0) {
    return entries;
  }
  const int32_t last = f.last_page_len != nullptr ? f.last_page_len[entry] : f.page_size;
  return (entries - 1) * f.page_size + last;
}

/// Index of the request that query token `row` belongs to: the last one that begins at or before it and is not empty.
FOVEA_FN int32_t request_of_row(const BatchView& b, int32_t row) {
  int32_t lo = 0, hi = b.num_requests;  // qo_indptr[lo] <= row < qo_indptr[hi]
  while (hi - lo > 1) {
    const int32_t mid = lo + (hi - lo) / 2;
    if (b.qo_indptr[mid] <= row) {
      lo = mid;
    } else {
      hi = mid;
    }
  }
  return lo;
}

/// Query tokens of a row set, as positions in the format's own row order: [begin, end).
FOVEA_FN void rows_of_set(const BatchView& b, const FormatView& f, int32_t set, int32_t& begin, int32_t& end) {
  if (f.row_indptr != nullptr) {
    begin = f.row_indptr[set];
    end = f.row_indptr[set + 1];
  } else if (f.block_rows > 0) {
    begin = set * f.block_rows;
    end = min_(begin + f.block_rows, b.qo_indptr[b.num_requests]);
  } else {
    begin = b.qo_indptr[set];
    end = b.qo_indptr[set + 1];
  }
}

/// The row set that holds query token `row` in a format without row_indices: sets are adjacent and in order.
FOVEA_FN int32_t set_of_row(const FormatView& f, int32_t row, int32_t request) {
  if (f.row_indptr == nullptr) {
    return f.block_rows > 0 ? row / f.block_rows : request;
  }
  int32_t lo = 0, hi = f.num_row_sets;
  while (hi - lo > 1) {
    const int32_t mid = lo + (hi - lo) / 2;
    if (f.row_indptr[mid] <= row) {
      lo = mid;
    } else {
      hi = mid;
    }
  }
  return lo;
}

/// Does a set of this format hold query token `row`? (Not for formats with row_indices.)
FOVEA_FN bool set_holds_row(const BatchView& b, const FormatView& f, int32_t set, int32_t row) {
  int32_t begin, end;
  rows_of_set(b, f, set, begin, end);
  return begin <= row && row < end;
}

/// Tokens of the first `num_formats` formats for a request, by its first row (and kv head 0). Zero for a request without rows, unless sets
/// are requests.
template <class Int = int32_t>
FOVEA_FN Int tokens_before(const BatchView& b, int32_t request, int32_t num_formats) {
  const int32_t row = b.qo_indptr[request];
  Int tokens = 0;
  for (int32_t i = 0; i < num_formats; ++i) {
    const FormatView& f = b.formats[i];
    if (f.num_row_sets == 0 || f.row_indices != nullptr || f.by_index) {
      continue;  // the last two say nothing of a request's tokens: kv_len is given
    }
    const bool sets_are_requests = f.row_indptr == nullptr && f.block_rows == 0;
    const int32_t set = set_of_row(f, row, request);
    if (sets_are_requests || (b.qo_indptr[request + 1] > row && set_holds_row(b, f, set, row))) {
      tokens += tokens_of_group(f, set * f.heads_per_set);
    }
  }
  return tokens;
}

/// Of a request whose query tokens are some of the batch's. (deferred)
FOVEA_FN BatchError error_of_request(const BatchView& b, int32_t r) {
  const int32_t qo_len = b.qo_indptr[r + 1] - b.qo_indptr[r];
  if (qo_len > b.max_query_tokens_per_request) {
    return BatchError::query_tokens;
  }
  int64_t most = b.max_kv_tokens_per_request;
  if (b.kv_len != nullptr) {
    if (b.kv_len[r] < 0 || b.kv_len[r] > most) {
      return BatchError::request_kv_len;
    }
    most = b.kv_len[r];
  }
  if ((b.kv_len != nullptr || b.num_formats > 1) && tokens_before<int64_t>(b, r, b.num_formats) > most) {
    return BatchError::request_tokens;
  }
  if (b.q_pos != nullptr && (b.q_pos[r] <= -kMaxPosition || b.q_pos[r] >= kMaxPosition - qo_len)) {
    return BatchError::q_pos;
  }
  return BatchError::none;
}

/// Is something wrong with a request? (deferred) Requests that know it have an overload.
template <class Requests>
FOVEA_FN bool is_bad_request(const BatchView& b, const Requests&, int32_t r) {
  return error_of_request(b, r) != BatchError::none;
}

FOVEA_FN Request make_request(const BatchView& b, int32_t r, bool bad) {
  Request q;
  q.qo_begin = b.qo_indptr[r];
  q.qo_len = b.qo_indptr[r + 1] - q.qo_begin;
  if (bad) {
    q.kv_len = 0;
    q.q_pos = -q.qo_len;
    return q;
  }
  q.kv_len = b.kv_len != nullptr ? b.kv_len[r] : tokens_before(b, r, b.num_formats);
  q.q_pos = b.q_pos != nullptr ? b.q_pos[r] : q.kv_len - q.qo_len;
  return q;
}

FOVEA_FN Request make_request(const BatchView& b, int32_t r) {
  return make_request(b, r, b.deferred && error_of_request(b, r) != BatchError::none);
}

/// Of a group with tables in order, at kv_pos. (deferred)
FOVEA_FN BatchError error_of_positions(const FormatView& f, int32_t kv_pos, int32_t num_cols) {
  const int64_t last = kv_pos + (f.by_index ? int64_t{0} : static_cast<int64_t>(max_(0, num_cols - 1)) * f.kv_pos_stride);
  return kv_pos < 0 || last >= kMaxPosition ? BatchError::kv_pos : BatchError::none;
}

/// Group `g` of format `i` (0 <= g < num_groups). `requests`: an array of all, or PlannedRequests. Groups without rows or columns are made
/// too: they hold no work.
template <class Requests>
FOVEA_FN RowGroup make_row_group(const BatchView& b, const Requests& requests, int32_t i, int32_t g) {
  const FormatView& f = b.formats[i];
  const int32_t set = g / f.heads_per_set;
  int32_t begin, end;
  rows_of_set(b, f, set, begin, end);

  RowGroup group;
  group.num_q_rows = end - begin;
  group.num_cols = tokens_of_group(f, g);
  group.format = static_cast<uint16_t>(i);
  group.kv_head = f.heads_per_set > 1 ? static_cast<uint16_t>(g % f.heads_per_set) : kAllHeads;
  group.table_begin = f.table_row_stride > 0     ? static_cast<int64_t>(f.table_rows != nullptr ? f.table_rows[g] : g) * f.table_row_stride
                      : f.page_indptr != nullptr ? f.page_indptr[g]
                                                 : 0;

  const int32_t first_row = f.row_indices != nullptr && end > begin ? f.row_indices[begin] : begin;
  const bool sets_are_requests = f.row_indptr == nullptr && f.block_rows == 0;
  const int32_t request = sets_are_requests ? set : (end > begin ? request_of_row(b, first_row) : -1);
  const bool one_request = request >= 0 && (sets_are_requests || (f.row_indices == nullptr && end <= b.qo_indptr[request + 1]));
  group.q_row_begin = first_row;
  group.rows = one_request || end <= begin ? -1 : f.first_row_ref + begin;
  group.request = one_request ? request : -1;
  if (request >= 0) {
    const Request first = requests[request];
    group.q_pos = first.q_pos + (first_row - first.qo_begin);
  } else {
    group.q_pos = 0;
  }
  group.kv_pos = f.kv_pos != nullptr ? f.kv_pos[g] : (request >= 0 && !f.by_index && i > 0 ? tokens_before(b, request, i) : 0);
  group.kv_pos_stride = f.kv_pos_stride;
  if (b.deferred) {
    if (error_of_positions(f, group.kv_pos, group.num_cols) != BatchError::none) {
      group.kv_pos = group.num_cols = 0;
    }
    if (one_request && is_bad_request(b, requests, request)) {
      group.num_cols = 0;
    }
  }
  return group;
}

/// The RowRef of place `j` (in the format's own row order) of a group that has them.
template <class Requests>
FOVEA_FN RowRef make_row_ref(const BatchView& b, const Requests& requests, const FormatView& f, const RowGroup& group, int32_t j) {
  RowRef ref;
  ref.row = f.row_indices != nullptr ? f.row_indices[j] : j;
  ref.request = request_of_row(b, ref.row);
  const Request request = requests[ref.request];
  ref.q_pos = request.q_pos + (ref.row - request.qo_begin);
  ref.col_end = b.deferred && is_bad_request(b, requests, ref.request) ? 0 : group.num_cols;
  return ref;
}

}  // namespace fovea
