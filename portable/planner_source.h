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
  FOVEA_NO_UNROLL
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

/// Requests that a block has made and judged before it makes groups.
struct PlannedRequests {
  Request* requests;
  int32_t* bad;
  FOVEA_FN Request operator[](int32_t r) const { return requests[r]; }
};
FOVEA_FN bool is_bad_request(const BatchView&, const PlannedRequests& requests, int32_t r) { return requests.bad[r] != 0; }

/// A group, and what is wrong.
struct SourcedGroup {
  Request request;  // of a simple batch
  RowGroup group;
  bool bad_rows;  // which query tokens are whose is not known
  bool bad_request, bad_group;
};

/// Any batch, with its true counts.
struct GeneralSource {
  static constexpr bool kSimple = false;
  const BatchView& batch;
  PlannedRequests requests;

  FOVEA_FN SourcedGroup group(int32_t g) const {
    const int32_t i = format_of_group(batch, g), entry = g - batch.formats[i].first_group;
    SourcedGroup x;
    x.bad_group = error_of_group(batch.formats[i], entry) != BatchError::none;
    x.group = make_row_group(batch, requests, i, entry);
    x.bad_rows = x.bad_request = false;  // found before
    return x;
  }
  FOVEA_FN bool by_index(const RowGroup& group) const { return batch.formats[group.format].by_index != 0; }
};

/// A batch that is_simple(), as the launch brings it.
struct SimpleSource {
  static constexpr bool kSimple = true;
  const BatchView& batch;

  FOVEA_FN SourcedGroup group(int32_t r) const {
    const FormatView& f = batch.formats[0];
    // All that is read, at once: what waits for the values comes behind.
    const int32_t qo_begin = batch.qo_indptr[r], qo_end = batch.qo_indptr[r + 1];
    const int32_t begin = f.page_indptr != nullptr ? f.page_indptr[r] : 0;
    const int32_t end = f.page_indptr != nullptr ? f.page_indptr[r + 1] : 0;
    const int32_t row = f.table_rows != nullptr ? f.table_rows[r] : r;
    const int32_t given = f.kv_len != nullptr ? f.kv_len[r] : f.last_page_len != nullptr ? f.last_page_len[r] : 0;
    const int32_t kv_len = batch.kv_len != nullptr ? batch.kv_len[r] : 0;
    const int32_t q_pos = batch.q_pos != nullptr ? batch.q_pos[r] : 0;

    SourcedGroup x;
    bool bad = false;
    int32_t entries = static_cast<int32_t>(min_<int64_t>(f.num_entries, kUnbounded));
    if (f.page_indptr != nullptr) {
      bad = begin < 0 || end < begin || end > entries;
      entries = bad ? 0 : end - begin;
      x.group.table_begin = begin;
    } else {
      bad = f.table_rows != nullptr && (row < 0 || row >= f.num_table_rows);
      x.group.table_begin = row * f.table_row_stride;
    }
    const int64_t room = static_cast<int64_t>(entries) * f.page_size;
    int64_t tokens = f.has_table ? room : entries;
    if (f.kv_len != nullptr) {
      bad |= given < 0 || given > room;
      tokens = given;
    } else if (f.has_table && f.last_page_len != nullptr && entries > 0) {
      bad |= given < 1 || given > f.page_size;
      tokens += int64_t{given} - f.page_size;
    }
    x.bad_group = bad || tokens > f.max_tokens;
    const int32_t num_cols = x.bad_group ? 0 : static_cast<int32_t>(tokens);

    x.bad_rows = qo_begin < 0 || qo_end < qo_begin || qo_end > batch.max_query_tokens || (r == 0 && qo_begin != 0);
    Request& q = x.request;
    q.qo_begin = qo_begin;
    q.qo_len = x.bad_rows ? 0 : qo_end - qo_begin;
    x.bad_request = q.qo_len > batch.max_query_tokens_per_request ||
                    (batch.kv_len != nullptr && (kv_len < 0 || kv_len > batch.max_kv_tokens_per_request || num_cols > kv_len)) ||
                    (batch.q_pos != nullptr && (q_pos <= -kMaxPosition || q_pos >= kMaxPosition - q.qo_len));
    q.kv_len = x.bad_request ? 0 : batch.kv_len != nullptr ? kv_len : num_cols;
    q.q_pos = batch.q_pos != nullptr && !x.bad_request ? q_pos : q.kv_len - q.qo_len;
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
  FOVEA_FN bool by_index(const RowGroup&) const { return false; }
};

/// What a schedule needs of a group, once it has been made.
struct alignas(8) PlannedGroup {
  int32_t tiles;  // visible ones, of a group of form ranges
  int32_t packed_rows;
  uint16_t kv_head;  // kAllHeads
  int8_t config;     // -1: no rows, no work
  uint8_t format : 3;
  uint8_t anywhere : 1;  // its rows have RowRefs
  uint8_t by_index : 1;
  int32_t q_pos, num_cols, kv_pos, kv_pos_stride;

  FOVEA_FN int32_t heads(int32_t num_kv_heads) const { return kv_head == kAllHeads ? num_kv_heads : 1; }
  /// As items name it.
  FOVEA_FN uint16_t head(int32_t h) const { return kv_head == kAllHeads ? static_cast<uint16_t>(h) : kv_head; }
};
static_assert(sizeof(PlannedGroup) == 32 && kMaxFormats <= 8);

/// unit_tiles(), with products where it divides.
FOVEA_FN VisibleTiles tiles_of_rows(const PlannerParams& params, KvRange range, const PlannedGroup& group, int32_t row_begin,
                                    int32_t row_end) {
  const Divisor tile_kv = params.tile_kv[group.config];
  QueryPositions q{-kAnyPosition, kAnyPosition};
  if (!group.anywhere) {
    q = {group.q_pos + row_begin / params.group_size, group.q_pos + (row_end - 1) / params.group_size};
  }
  if (is_one_span(range) && group.kv_pos_stride == 1 && !group.by_index) {
    const Span columns = visible_span(range, q, group.kv_pos, group.num_cols);
    return columns.empty() ? VisibleTiles{} : VisibleTiles{Span{columns.begin / tile_kv, ceil_div(columns.end, tile_kv)}, Span{}};
  }
  RowGroup columns_of_group;
  columns_of_group.num_cols = group.num_cols;
  columns_of_group.kv_pos = group.kv_pos;
  columns_of_group.kv_pos_stride = group.kv_pos_stride;
  return visible_tiles(visible_columns(columns_of_group, range, q, group.by_index), tile_kv);
}

FOVEA_FN PlannedGroup planned_group(const PlannerParams& params, const RowGroup& group, bool by_index, KvRange range) {
  PlannedGroup g;
  g.packed_rows = packed_rows_of(group, params.group_size.value);
  g.kv_head = group.kv_head;
  g.config = g.packed_rows > 0 ? static_cast<int8_t>(config_of(params.configs, params.num_configs, g.packed_rows)) : int8_t{-1};
  g.format = static_cast<uint8_t>(group.format) & 7u;
  g.anywhere = group.rows >= 0;
  g.by_index = by_index;
  g.q_pos = group.q_pos;
  g.num_cols = group.num_cols;
  g.kv_pos = group.kv_pos;
  g.kv_pos_stride = group.kv_pos_stride;
  g.tiles =
      g.config >= 0 && params.configs[g.config].form == PlanForm::ranges ? tiles_of_rows(params, range, g, 0, g.packed_rows).count() : 0;
  return g;
}

}  // namespace fovea
