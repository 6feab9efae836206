// The planner kernel's first half: the batch with its true counts, and requests, row groups, row references and composed rows, one by one.
// Programs for thread blocks: `Block` runs a phase's steps in any order, with a barrier behind it (backends/cuda/kernels/plan/block.cuh; in
// tests a loop). A step calls no function that isn't inlined: see backends/cuda/kernels/plan/notes.md.
#pragma once

#include "portable/planner_errors.h"

namespace fovea {

/// Memory for a block's arrays: shared while there is room, else global. Copies take the same again.
struct PlannerScratch {
  char* shared;
  int32_t shared_left;
  char* global;

  /// kShared: the launch knows that there is room, and the compiler that it is shared memory.
  template <class T, bool kShared = false>
  FOVEA_FN T* take(int32_t count) {
    const int64_t bytes = (static_cast<int64_t>(count) * static_cast<int64_t>(sizeof(T)) + 15) & ~int64_t{15};
    T* array = reinterpret_cast<T*>(shared);
    if (kShared || bytes <= shared_left) {
      shared += bytes;
      shared_left -= static_cast<int32_t>(bytes);
    } else {
      array = reinterpret_cast<T*>(global);
      global += bytes;
    }
    return array;
  }
};

/// Counts as a batch of `n` requests has them: what check_batch() computes on the host.
FOVEA_FN void fill_counts(PlannerState& s, int32_t n) {
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
}

/// A batch of nothing: what stays of one whose rows make no sense.
FOVEA_FN void make_empty(PlannerState& s) {
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < s.batch.num_formats; ++i) {
    s.batch.formats[i].num_row_sets = 0;
    s.batch.formats[i].first_group = 0;
  }
  s.batch.num_requests = s.num_query_tokens = s.num_groups = 0;
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
  const int32_t kv_heads = params.num_kv_heads.value;
  const int64_t columns = block.template sum<int64_t>(s.num_groups, [&](int32_t g) {
    const FormatView& f = b.formats[format_of_group(b, g)];
    return static_cast<int64_t>(tokens_of_group(f, g - f.first_group)) * (f.heads_per_set > 1 ? 1 : kv_heads);
  });
  block.once([&] {
    if (columns > params.max_kv_tokens * kv_heads) {
      s.void_error = static_cast<int32_t>(BatchError::kv_tokens);
      make_empty(s);
    }
  });
}

/// The batch of this step, checked as a whole; of a simple one only how many requests there are, the rest where its groups are read.
/// Returns the number of groups. Every block of a launch does this for itself.
template <bool kSimple, class Block>
FOVEA_DEVICE_FN int32_t read_batch(Block& block, const PlannerParams& params, PlannerState& s) {
  int32_t n = params.num_requests != nullptr ? *params.num_requests : params.batch.num_requests;
  const bool n_is_good = 0 <= n && n <= params.batch.num_requests;
  if (!n_is_good || (kSimple && n > params.max_row_groups)) {
    block.first([&] { s.void_error = static_cast<int32_t>(n_is_good ? BatchError::row_groups : BatchError::num_requests); });
    n = 0;
  }
  if constexpr (kSimple) {
    return n;
  }
  block.once([&] { s.batch = params.batch; });
  check_rows(block, params, s, n);
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
  return s.num_groups;
}

/// All requests of a general batch. Blocks whose scratch has no room in shared memory write the same values to the same place.
template <class Block>
FOVEA_DEVICE_FN PlannedRequests make_requests(Block& block, PlannerState& s, PlannerScratch& scratch) {
  const BatchView& b = s.batch;
  const PlannedRequests all{scratch.template take<Request>(b.num_requests), scratch.template take<int32_t>(b.num_requests)};
  block.each(b.num_requests, [&](int32_t r) {
    const bool bad = error_of_request(b, r) != BatchError::none;
    if (bad) {
      block.lower(&s.bad_request, r);
    }
    all.requests[r] = make_request(b, r, bad);
    all.bad[r] = bad;
  });
  return all;
}

/// The RowRef of place `j` of format i, if the group it belongs to has them.
FOVEA_FN void write_row_ref(const PlannerParams& params, const BatchView& b, const PlannedRequests& requests, int32_t i, int32_t j) {
  const FormatView& f = b.formats[i];
  const int32_t set = set_of_row(f, j, 0);  // places are in set order, whatever rows stand there
  int32_t begin, end;
  rows_of_set(b, f, set, begin, end);
  if (j < begin || j >= end) {
    return;
  }
  RowGroup widest{};
  FOVEA_NO_UNROLL
  for (int32_t h = 0; h < f.heads_per_set; ++h) {
    const RowGroup group = make_row_group(b, requests, i, set * f.heads_per_set + h);
    widest.num_cols = max_(widest.num_cols, group.num_cols);
    widest.rows = group.rows;
  }
  if (widest.rows >= 0) {
    params.row_refs[f.first_row_ref + j] = make_row_ref(b, requests, f, widest, j);
  }
}

/// A composed row, with the levels whose rows are adjacent and in order.
FOVEA_FN ComposedRow make_composed_row(const BatchView& b, const PlannedRequests& requests, int32_t row) {
  const int32_t r = request_of_row(b, row);
  const Request request = requests[r];
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
  int32_t n = read_batch<true>(block, params, s);
  check_requests(block, params, s, n);
  n = s.void_error == kNone ? n : 0;
  const SimpleSource source{params.batch};
  const int32_t each = ceil_div(n, parts), begin = min_(n, part * each);
  block.each(min_(each, n - begin), [&](int32_t i) {
    const SourcedGroup both = source.group(begin + i);
    params.requests[begin + i] = both.request;
    params.groups[begin + i] = both.group;
  });
  if (part == 0) {
    block.once([&] {
      *params.num_groups = *params.planned_requests = n;
      *params.num_composed = 0;
    });
  }
}

template <class Block>
FOVEA_DEVICE_FN void write_composed_rows(Block& block, const PlannerParams& params, const PlannerState& s,
                                         const PlannedRequests& requests) {
  const BatchView& b = s.batch;
  block.each(s.num_query_tokens, [&](int32_t row) { params.composed[row] = make_composed_row(b, requests, row); });
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < b.num_formats; ++i) {
    const FormatView& f = b.formats[i];
    if (f.row_indices != nullptr && f.num_row_sets > 0) {
      block.each(f.row_indptr[f.num_row_sets], [&](int32_t j) { block.set_bits(&params.composed[f.row_indices[j]].level_mask, 1u << i); });
    }
  }
}

template <class Block>
FOVEA_DEVICE_FN void write_batch(Block& block, const PlannerParams& params, PlannerState& s, PlannerScratch scratch, int32_t part,
                                 int32_t parts) {
  read_batch<false>(block, params, s);
  const BatchView& b = s.batch;
  const PlannedRequests requests = make_requests(block, s, scratch);
  const auto share = [&](int32_t count, const auto& step) {
    const int32_t each = ceil_div(count, parts), begin = min_(count, part * each);
    block.each(min_(each, count - begin), [&](int32_t i) { step(begin + i); });
  };
  share(b.num_requests, [&](int32_t r) { params.requests[r] = requests[r]; });
  share(s.num_groups, [&](int32_t g) {
    const int32_t i = format_of_group(b, g);
    params.groups[g] = make_row_group(b, requests, i, g - b.formats[i].first_group);
  });
  FOVEA_NO_UNROLL
  for (int32_t i = 0; i < b.num_formats; ++i) {
    const FormatView& f = b.formats[i];
    if (f.first_row_ref >= 0 && f.num_row_sets > 0) {
      share(f.row_indptr != nullptr ? f.row_indptr[f.num_row_sets] : s.num_query_tokens,
            [&](int32_t j) { write_row_ref(params, b, requests, i, j); });
    }
  }
  if (part == 0) {
    if (b.num_formats > 1) {
      write_composed_rows(block, params, s, requests);
    }
    block.once([&] {
      *params.num_groups = s.num_groups;
      *params.num_composed = b.num_formats > 1 ? s.num_query_tokens : 0;
      *params.planned_requests = b.num_requests;
    });
  }
}

}  // namespace fovea
