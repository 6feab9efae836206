// The planner kernel's first half: the batch with its true counts, and requests, row groups, row references and composed rows, one by one.
// Programs for thread blocks: `Block` runs a phase's steps in any order, with a barrier behind it (backends/cuda/kernels/plan/block.cuh; in
// tests a loop).
#pragma once

#include "portable/planner_source.h"

namespace fovea {

/// In memory that the block shares.
struct PlannerState {
  BatchView batch;  // with true counts; unless it is simple
  int32_t num_requests;
  int32_t num_query_tokens;
  int32_t num_groups;
  int32_t num_places;   // of all row refs
  int32_t void_error;   // BatchError of the batch as a whole
  int32_t bad_request;  // the first; kNone
  int32_t bad_group;
  int32_t used_buckets;
  int32_t configs_with_work;  // bit c
};

inline constexpr int32_t kNone = 0x7fffffff;

/// Memory for a block's arrays: shared while there is room, else global. Copies take the same again.
struct PlannerScratch {
  char* shared;
  int64_t shared_left;
  char* global;

  template <class T>
  FOVEA_FN T* take(int32_t count) {
    const int64_t bytes = ceil_div(static_cast<int64_t>(count) * static_cast<int64_t>(sizeof(T)), int64_t{16}) * 16;
    char*& from = bytes <= shared_left ? shared : global;
    T* array = reinterpret_cast<T*>(from);
    shared_left -= bytes <= shared_left ? bytes : 0;
    from += bytes;
    return array;
  }
};

/// Counts as a batch of `n` requests has them: what check_batch() computes on the host.
FOVEA_CALLED_FN void fill_counts(PlannerState& s, int32_t n) {
  BatchView& b = s.batch;
  b.num_requests = n;
  s.num_query_tokens = n > 0 ? b.qo_indptr[n] : 0;
  int64_t groups = 0, places = 0;
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < b.num_formats; ++i) {
    FormatView& f = b.formats[i];
    f.first_row_ref = -1;
    if (f.row_indptr == nullptr) {
      f.num_row_sets = f.block_rows > 0 ? ceil_div(s.num_query_tokens, f.block_rows) : n;
    }
    if (!sets_are_requests_of(f)) {
      f.first_row_ref = static_cast<int32_t>(places);
      places += f.row_indptr != nullptr ? f.row_indptr[f.num_row_sets] : s.num_query_tokens;
    }
    f.first_group = static_cast<int32_t>(groups);
    groups += static_cast<int64_t>(f.num_row_sets) * f.heads_per_set;
  }
  s.num_groups = static_cast<int32_t>(min_<int64_t>(groups, kNone));
  s.num_places = static_cast<int32_t>(places);
}

/// A batch of nothing: what stays of one whose rows make no sense.
FOVEA_CALLED_FN void make_empty(PlannerState& s) {
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < s.batch.num_formats; ++i) {
    s.batch.formats[i].num_row_sets = 0;
    s.batch.formats[i].first_group = 0;
  }
  s.batch.num_requests = s.num_query_tokens = s.num_groups = s.num_places = 0;
}

template <class Block>
FOVEA_DEVICE_FN void check_requests(Block& block, const PlannerParams& params, PlannerState& s, int32_t n) {
  const BatchView& b = params.batch;
  block.each(n, [&](int32_t r) {
    const int32_t begin = b.qo_indptr[r], end = b.qo_indptr[r + 1];
    if (begin < 0 || end < begin || end > b.max_query_tokens || (r == 0 && begin != 0)) {
      block.lower(&s.void_error, static_cast<int32_t>(BatchError::qo_indptr));
    }
  });
}

/// Marks the batch as void unless counts and rows are what plans are sized for: everything below may then index by them.
template <class Block>
FOVEA_DEVICE_FN void check_rows(Block& block, const PlannerParams& params, PlannerState& s, int32_t n) {
  const BatchView& b = params.batch;
  const auto fail = [&](BatchError error) { block.lower(&s.void_error, static_cast<int32_t>(error)); };
  check_requests(block, params, s, n);
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < b.num_formats; ++i) {
    const FormatView& f = b.formats[i];
    if (f.row_indptr == nullptr) {
      continue;
    }
    const int32_t tokens = block.shared(&s.void_error) == kNone && n > 0 ? b.qo_indptr[n] : 0;
    block.each(f.num_row_sets, [&](int32_t set) {
      const int32_t begin = f.row_indptr[set], end = f.row_indptr[set + 1];
      if (begin < 0 || end < begin || end > tokens || (set == 0 && begin != 0) || end > (f.row_indices ? f.num_row_entries : kNone)) {
        fail(BatchError::row_indptr);
      }
    });
    if (block.shared(&s.void_error) == kNone && f.row_indices != nullptr) {
      block.each(f.row_indptr[f.num_row_sets], [&](int32_t j) {
        if (f.row_indices[j] < 0 || f.row_indices[j] >= tokens) {
          fail(BatchError::row_indices);
        }
      });
    }
  }
}

/// Columns of all groups, once per kv head; those of fixed splits alone are bounded by it.
template <class Block>
FOVEA_DEVICE_FN void check_columns(Block& block, const PlannerParams& params, PlannerState& s) {
  if (!params.fixed_splits) {
    return;
  }
  const BatchView& b = s.batch;
  const int64_t columns = block.template sum<int64_t>(s.num_groups, [&](int32_t g) {
    const FormatView& f = b.formats[format_of_group(b, g)];
    return static_cast<int64_t>(tokens_of_group(f, g - f.first_group)) * (f.heads_per_set > 1 ? 1 : params.num_kv_heads);
  });
  block.once([&] {
    if (columns > params.max_kv_tokens * params.num_kv_heads) {
      s.void_error = static_cast<int32_t>(BatchError::kv_tokens);
    }
  });
}

/// The batch of this step, checked as a whole. Every block of a launch does this for itself.
template <bool kSimple, class Block>
FOVEA_DEVICE_FN void read_batch(Block& block, const PlannerParams& params, PlannerState& s) {
  const int32_t n = params.num_requests != nullptr ? *params.num_requests : params.batch.num_requests;
  const bool n_is_good = 0 <= n && n <= params.batch.num_requests;
  block.once([&] {
    if constexpr (!kSimple) {
      s.batch = params.batch;
    }
    s.void_error = n_is_good ? kNone : static_cast<int32_t>(BatchError::num_requests);
    s.bad_request = s.bad_group = kNone;
    s.used_buckets = s.configs_with_work = 0;
  });
  if constexpr (kSimple) {
    check_requests(block, params, s, n_is_good ? n : 0);
    block.once([&] {
      s.num_query_tokens = s.void_error == kNone && n > 0 ? params.batch.qo_indptr[n] : 0;
      s.num_requests = s.num_groups = s.void_error == kNone ? n : 0;
    });
    return;
  }
  check_rows(block, params, s, n_is_good ? n : 0);
  block.once([&] {
    if (s.void_error == kNone) {
      fill_counts(s, n);
      if (s.num_groups > params.max_row_groups) {
        s.void_error = static_cast<int32_t>(BatchError::row_groups);
      }
    }
    if (s.void_error != kNone) {
      make_empty(s);
    }
  });
  check_columns(block, params, s);
  block.once([&] {
    if (s.void_error != kNone) {
      make_empty(s);
    }
    s.num_requests = s.batch.num_requests;
  });
}

/// Says what is wrong with the batch as a whole.
FOVEA_CALLED_FN void describe_void(const PlannerParams& params, PlanStatus& status, BatchError error) {
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
FOVEA_CALLED_FN void describe_group(const FormatView& f, PlanStatus& status, BatchError error, int32_t entry) {
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
FOVEA_CALLED_FN void describe_request(const BatchView& b, PlanStatus& status, BatchError error, int32_t r) {
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

/// Says what was found wrong, unless something before it waits to be read.
template <class Block>
FOVEA_DEVICE_FN void report_errors(Block& block, const PlannerParams& params, PlannerState& s, const BatchView& b) {
  block.once([&] {
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

/// The RowRef of place `j` of format f, if the group it belongs to has them.
FOVEA_CALLED_FN void write_row_ref(const PlannerParams& params, const BatchView& b, int32_t i, int32_t j) {
  const FormatView& f = b.formats[i];
  const int32_t set = set_of_row(f, j, 0);  // places are in set order, whatever rows stand there
  int32_t begin, end;
  rows_of_set(b, f, set, begin, end);
  if (j < begin || j >= end) {
    return;
  }
  const RequestsOnDemand requests{b};
  RowGroup widest = make_row_group(b, requests, i, set * f.heads_per_set);
  if (widest.rows < 0) {
    return;
  }
  for (int32_t h = 1; h < f.heads_per_set; ++h) {
    widest.num_cols = max_(widest.num_cols, make_row_group(b, requests, i, set * f.heads_per_set + h).num_cols);
  }
  params.row_refs[f.first_row_ref + j] = make_row_ref(b, requests, f, widest, j);
}

/// A composed row, with the levels whose rows are adjacent and in order.
FOVEA_CALLED_FN ComposedRow make_composed_row(const BatchView& b, int32_t row) {
  const int32_t r = request_of_row(b, row);
  const Request request = make_request(b, r);
  ComposedRow composed{.row = row, .request = r, .q_pos = request.q_pos + (row - request.qo_begin), .level_mask = 0};
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < b.num_formats; ++i) {
    const FormatView& f = b.formats[i];
    if (f.row_indices == nullptr && f.num_row_sets > 0 && set_holds_row(b, f, set_of_row(f, row, r), row)) {
      composed.level_mask |= 1u << i;
    }
  }
  return composed;
}

/// Requests, groups and what hangs on them: block `part` of `parts`, each a share of everything.
template <class Block>
FOVEA_DEVICE_FN void write_simple_batch(Block& block, const PlannerParams& params, PlannerState& s, int32_t part, int32_t parts) {
  read_batch<true>(block, params, s);
  const SimpleSource source{params.batch};
  const int32_t each = ceil_div(s.num_groups, parts), begin = min_(s.num_groups, part * each);
  block.each(min_(each, s.num_groups - begin), [&](int32_t i) {
    const SimpleSource::Both both = source.both(begin + i);
    params.requests[begin + i] = both.request;
    params.groups[begin + i] = both.group;
  });
  if (part == 0) {
    block.once([&] {
      *params.num_groups = *params.planned_requests = s.num_groups;
      *params.num_composed = 0;
    });
  }
}

template <class Block>
FOVEA_DEVICE_FN void write_batch(Block& block, const PlannerParams& params, PlannerState& s, int32_t part, int32_t parts) {
  read_batch<false>(block, params, s);
  const BatchView& b = s.batch;
  const auto share = [&](int32_t count, const auto& step) {
    const int32_t each = ceil_div(count, parts), begin = min_(count, part * each);
    block.each(min_(each, count - begin), [&](int32_t i) { step(begin + i); });
  };
  share(b.num_requests, [&](int32_t r) { params.requests[r] = make_request(b, r); });
  share(s.num_groups, [&](int32_t g) { params.groups[g] = GeneralSource{b}.group(g); });
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < b.num_formats; ++i) {
    const FormatView& f = b.formats[i];
    if (f.first_row_ref >= 0 && f.num_row_sets > 0) {
      share(f.row_indptr != nullptr ? f.row_indptr[f.num_row_sets] : s.num_query_tokens,
            [&](int32_t j) { write_row_ref(params, b, i, j); });
    }
  }
  if (b.num_formats > 1 && part == 0) {
    block.each(s.num_query_tokens, [&](int32_t row) { params.composed[row] = make_composed_row(b, row); });
    FOVEA_NO_UNROLL
    for (int32_t i = 0; i < b.num_formats; ++i) {
      const FormatView& f = b.formats[i];
      if (f.row_indices != nullptr && f.num_row_sets > 0) {
        block.each(f.row_indptr[f.num_row_sets],
                   [&](int32_t j) { block.set_bits(&params.composed[f.row_indices[j]].level_mask, 1u << i); });
      }
    }
  }
  if (part == 0) {
    block.once([&] {
      *params.num_groups = s.num_groups;
      *params.num_composed = b.num_formats > 1 ? s.num_query_tokens : 0;
      *params.planned_requests = b.num_requests;
    });
  }
}

}  // namespace fovea
