// Where the planner kernel's requests and groups come from. Two sources give the same answers: one for every batch, and a short one for the
// batch that nearly all steps have, one format whose groups are the requests: a kernel of one short program that is run once waits for its
// instructions most of the time.
#pragma once

#include "portable/planner_params.h"
#include "portable/work_iterator.h"

namespace fovea {

FOVEA_FN bool sets_are_requests_of(const FormatView& f) { return f.row_indptr == nullptr && f.block_rows == 0; }

/// Is SimpleSource for it?
FOVEA_FN bool is_simple(const BatchView& b) {
  const FormatView& f = b.formats[0];
  return b.num_formats == 1 && sets_are_requests_of(f) && f.heads_per_set == 1 && !f.by_index && f.kv_pos == nullptr &&
         f.kv_pos_stride == 1;
}

/// Which format a group is of: the last that begins at or before it and has groups.
FOVEA_FN int32_t format_of_group(const BatchView& b, int32_t g) {
  int32_t i = 0;
  while (i + 1 < b.num_formats && g >= b.formats[i].first_group + b.formats[i].num_groups()) {
    ++i;
  }
  return i;
}

/// What is wrong with a group of format f. (deferred)
FOVEA_FN BatchError error_of_group(const FormatView& f, int32_t entry) {
  const BatchError error = error_of_tables(f, entry);
  return error != BatchError::none ? error : error_of_positions(f, f.kv_pos != nullptr ? f.kv_pos[entry] : 0, tokens_of_group(f, entry));
}

/// Any batch, with its true counts.
struct GeneralSource {
  static constexpr bool kSimple = false;
  const BatchView& batch;

  FOVEA_CALLED_FN RowGroup group(int32_t g) const {
    const int32_t i = format_of_group(batch, g);
    return make_row_group(batch, RequestsOnDemand{batch}, i, g - batch.formats[i].first_group);
  }
  FOVEA_CALLED_FN BatchError error(int32_t g) const {
    const FormatView& f = batch.formats[format_of_group(batch, g)];
    return error_of_group(f, g - f.first_group);
  }
  FOVEA_FN Request request(int32_t r) const { return make_request(batch, r); }
  FOVEA_FN int32_t heads(int32_t g, int32_t num_kv_heads) const {
    return batch.formats[format_of_group(batch, g)].heads_per_set > 1 ? 1 : num_kv_heads;
  }
  FOVEA_FN bool by_index(const RowGroup& group) const { return batch.formats[group.format].by_index != 0; }
};

/// A batch that is_simple(), as the launch brings it.
struct SimpleSource {
  static constexpr bool kSimple = true;
  const BatchView& batch;

  struct Both {
    Request request;
    RowGroup group;
    BatchError group_error;
    bool bad_request;
  };
  FOVEA_FN Both both(int32_t r) const {
    const FormatView& f = batch.formats[0];
    Both x;
    int64_t entries = f.num_entries;
    x.group.table_begin = 0;
    x.group_error = BatchError::none;
    if (f.page_indptr != nullptr) {
      const int32_t begin = f.page_indptr[r], end = f.page_indptr[r + 1];
      x.group_error = begin < 0 || end < begin || end > f.num_entries ? BatchError::page_indptr : BatchError::none;
      entries = end - begin;
      x.group.table_begin = begin;
    } else {
      const int32_t row = f.table_rows != nullptr ? f.table_rows[r] : r;
      x.group_error = f.table_rows != nullptr && (row < 0 || row >= f.num_table_rows) ? BatchError::table_rows : BatchError::none;
      x.group.table_begin = row * f.table_row_stride;
    }
    int64_t tokens = f.has_table ? entries * f.page_size : entries;
    if (f.kv_len != nullptr) {
      const int64_t room = entries * f.page_size;
      tokens = f.kv_len[r];
      x.group_error = x.group_error == BatchError::none && (tokens < 0 || tokens > room) ? BatchError::kv_len : x.group_error;
    } else if (f.has_table && f.last_page_len != nullptr && entries > 0) {
      const int32_t last = f.last_page_len[r];
      tokens += last - f.page_size;
      x.group_error = x.group_error == BatchError::none && (last < 1 || last > f.page_size) ? BatchError::last_page_len : x.group_error;
    }
    x.group_error = x.group_error == BatchError::none && tokens > f.max_tokens ? BatchError::tokens : x.group_error;
    const int32_t num_cols = x.group_error == BatchError::none ? static_cast<int32_t>(tokens) : 0;

    Request& q = x.request;
    q.qo_begin = batch.qo_indptr[r];
    q.qo_len = batch.qo_indptr[r + 1] - q.qo_begin;
    q.kv_len = batch.kv_len != nullptr ? batch.kv_len[r] : num_cols;
    q.q_pos = batch.q_pos != nullptr ? batch.q_pos[r] : q.kv_len - q.qo_len;
    x.bad_request = q.qo_len > batch.max_query_tokens_per_request ||
                    (batch.kv_len != nullptr && (q.kv_len < 0 || q.kv_len > batch.max_kv_tokens_per_request || num_cols > q.kv_len)) ||
                    (batch.q_pos != nullptr && (q.q_pos <= -kMaxPosition || q.q_pos >= kMaxPosition - q.qo_len));
    if (x.bad_request) {
      q.kv_len = 0;
      q.q_pos = -q.qo_len;
    }
    x.group.q_row_begin = q.qo_begin;
    x.group.num_q_rows = q.qo_len;
    x.group.rows = -1;
    x.group.num_cols = x.bad_request ? 0 : num_cols;
    x.group.q_pos = q.q_pos;
    x.group.kv_pos = 0;
    x.group.kv_pos_stride = 1;
    x.group.request = r;
    x.group.format = 0;
    x.group.kv_head = kAllHeads;
    return x;
  }
  FOVEA_FN RowGroup group(int32_t r) const { return both(r).group; }
  FOVEA_FN BatchError error(int32_t r) const { return both(r).group_error; }
  FOVEA_FN Request request(int32_t r) const { return both(r).request; }
  FOVEA_FN int32_t heads(int32_t, int32_t num_kv_heads) const { return num_kv_heads; }
  FOVEA_FN bool by_index(const RowGroup&) const { return false; }
};

}  // namespace fovea
