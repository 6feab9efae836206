// What the planner kernel says of a batch that is wrong: the first finding, with its value. One thread's work, at most once a launch.
#pragma once

#include "portable/planner_source.h"

namespace fovea {

inline constexpr int32_t kNone = 0x7fffffff;

/// In memory that the block shares.
struct PlannerState {
  BatchView batch;  // with true counts; unless it is simple
  int32_t num_requests;
  int32_t num_query_tokens;
  int32_t num_groups;
  int32_t void_error;   // BatchError of the batch as a whole
  int32_t bad_request;  // the first; kNone
  int32_t bad_group;
  int32_t used_configs;                // bit c: groups have work for it
  int32_t steps_back;                  // a boundary does
  uint64_t totals[kMaxKernelConfigs];  // what their groups cost
};

/// Before anything is read; a barrier follows.
template <class Block>
FOVEA_DEVICE_FN void reset_state(Block& block, PlannerState& s) {
  block.once([&] {
    s.void_error = s.bad_request = s.bad_group = kNone;
    s.used_configs = s.steps_back = 0;
  });
}

/// Says what is wrong with the batch as a whole.
FOVEA_FN void describe_void(const PlannerParams& params, PlanStatus& status, BatchError error) {
  const BatchView& b = params.batch;
  const int32_t n = params.num_requests != nullptr ? *params.num_requests : b.num_requests;
  if (error == BatchError::num_requests) {
    status.value = n;
    status.bound = b.num_requests;
    return;
  }
  status.bound = error == BatchError::row_groups  ? params.max_row_groups
                 : error == BatchError::kv_tokens ? params.max_kv_tokens
                                                  : b.max_query_tokens;
  if (error == BatchError::qo_indptr) {
    int32_t r = 0, last = 0;
    while (r < n && b.qo_indptr[r] >= last && b.qo_indptr[r] <= b.max_query_tokens && (r > 0 || b.qo_indptr[0] == 0)) {
      last = b.qo_indptr[r++];
    }
    status.index = r;
    status.value = b.qo_indptr[r];
  }
}

/// Says what is wrong with a group.
FOVEA_FN void describe_group(const FormatView& f, PlanStatus& status, BatchError error, int32_t entry) {
  status.bound = f.max_tokens;
  switch (error) {
    case BatchError::page_indptr:
      status.value = f.page_indptr[entry + 1];
      status.bound = f.num_entries;
      break;
    case BatchError::table_rows:
      status.value = f.table_rows[entry];
      status.bound = f.num_table_rows - 1;
      break;
    case BatchError::last_page_len:
      status.value = f.last_page_len[entry];
      status.bound = f.page_size;
      break;
    case BatchError::kv_pos:
      status.value = f.kv_pos != nullptr ? f.kv_pos[entry] : 0;
      status.bound = kMaxPosition - 1;
      break;
    default:
      status.value = f.kv_len != nullptr ? f.kv_len[entry] : f.page_indptr[entry + 1] - f.page_indptr[entry];
      status.bound = f.kv_len != nullptr && error == BatchError::kv_len
                         ? (f.page_indptr != nullptr ? f.page_indptr[entry + 1] - f.page_indptr[entry] : f.num_entries) * f.page_size
                         : f.max_tokens;
  }
}

/// Says what is wrong with a request.
FOVEA_FN void describe_request(const BatchView& b, PlanStatus& status, BatchError error, int32_t r) {
  if (error == BatchError::query_tokens) {
    status.value = b.qo_indptr[r + 1] - b.qo_indptr[r];
    status.bound = b.max_query_tokens_per_request;
  } else if (error == BatchError::q_pos) {
    status.value = b.q_pos[r];
    status.bound = kMaxPosition - 1;
  } else {
    const int64_t tokens = error == BatchError::request_kv_len ? b.kv_len[r] : tokens_before<int64_t>(b, r, b.num_formats);
    status.value = static_cast<int32_t>(min_<int64_t>(tokens, kNone));
    status.bound = error == BatchError::request_tokens && b.kv_len != nullptr ? b.kv_len[r] : b.max_kv_tokens_per_request;
  }
}

/// The first of what was found wrong.
FOVEA_CALLED_FN PlanStatus describe_errors(const PlannerParams& params, const PlannerState& s, const BatchView& b) {
  PlanStatus status;
  if (s.void_error != kNone) {
    status.error = s.void_error;
    describe_void(params, status, static_cast<BatchError>(s.void_error));
  } else if (s.bad_group != kNone) {
    const int32_t i = b.num_formats > 1 ? format_of_group(b, s.bad_group) : 0;
    status.format = i;
    status.index = s.bad_group - b.formats[i].first_group;
    status.error = static_cast<int32_t>(error_of_group(b.formats[i], status.index));
    describe_group(b.formats[i], status, static_cast<BatchError>(status.error), status.index);
  } else {
    status.index = s.bad_request;
    status.error = static_cast<int32_t>(error_of_request(b, s.bad_request));
    describe_request(b, status, static_cast<BatchError>(status.error), s.bad_request);
  }
  return status;
}

/// Says what was found wrong, unless something before it waits to be read. Without a barrier: nothing found changes any more.
template <class Block>
FOVEA_DEVICE_FN void report_errors(Block& block, const PlannerParams& params, PlannerState& s, const BatchView& b) {
  block.first([&] {
    volatile int32_t* waiting = &params.status->error;
    if ((s.void_error == kNone && s.bad_request == kNone && s.bad_group == kNone) || *waiting != 0) {
      return;
    }
    const PlanStatus status = describe_errors(params, s, b);
    params.status->format = status.format;
    params.status->index = status.index;
    params.status->value = status.value;
    params.status->bound = status.bound;
    block.publish();
    *waiting = status.error;
  });
}

}  // namespace fovea
