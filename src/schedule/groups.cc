// From a batch to requests, row groups, row references and composed rows.
#include "portable/batch_view.h"
#include "src/schedule/schedule.h"
#include "src/support/check.h"

namespace fovea {

namespace {

/// The rows of a set whose rows are of several requests or not adjacent. A set's groups (one per kv head) share them; each clamps to its
/// own columns.
void make_row_refs(const BatchView& batch, const FormatView& f, PlanArraysMut& arrays, std::int32_t set) {
  RowGroup widest = arrays.groups[f.first_group + set * f.heads_per_set];
  for (std::int32_t h = 1; h < f.heads_per_set; ++h) {
    widest.num_cols = max_(widest.num_cols, arrays.groups[f.first_group + set * f.heads_per_set + h].num_cols);
  }
  std::int32_t begin, end;
  rows_of_set(batch, f, set, begin, end);
  for (std::int32_t j = begin; j < end; ++j) {
    arrays.row_refs[f.first_row_ref + j] = make_row_ref(batch, arrays.requests, f, widest, j);
  }
}

void mark_level(const BatchView& batch, const FormatView& f, std::int32_t level, PlanArraysMut& arrays) {
  for (std::int32_t set = 0; set < f.num_row_sets; ++set) {
    std::int32_t begin, end;
    rows_of_set(batch, f, set, begin, end);
    for (std::int32_t j = begin; j < end; ++j) {
      arrays.composed[f.row_indices != nullptr ? f.row_indices[j] : j].level_mask |= 1u << level;
    }
  }
}

/// Every query token, in order, with the formats that have a group holding it.
void make_composed_rows(const BatchView& batch, PlanArraysMut& arrays) {
  *arrays.num_composed = batch.num_formats > 1 ? batch.qo_indptr[batch.num_requests] : 0;
  if (batch.num_formats == 1) {
    return;
  }
  for (std::int32_t r = 0; r < batch.num_requests; ++r) {
    const Request& request = arrays.requests[r];
    for (std::int32_t i = 0; i < request.qo_len; ++i) {
      arrays.composed[request.qo_begin + i] = {.row = request.qo_begin + i, .request = r, .q_pos = request.q_pos + i, .level_mask = 0};
    }
  }
  for (std::int32_t level = 0; level < batch.num_formats; ++level) {
    mark_level(batch, batch.formats[level], level, arrays);
  }
}

}  // namespace

void make_groups(const Problem& problem, const BatchView& batch, PlanArraysMut& arrays) {
  const Limits& limits = problem.limits;
  FOVEA_ASSERT(batch.num_requests <= limits.max_requests && batch.qo_indptr[batch.num_requests] <= limits.max_query_tokens,
               "a batch of {} requests and {} query tokens reached the planner, the limits are {} and {}", batch.num_requests,
               batch.qo_indptr[batch.num_requests], limits.max_requests, limits.max_query_tokens);
  for (std::int32_t r = 0; r < batch.num_requests; ++r) {
    arrays.requests[r] = make_request(batch, r);
  }
  std::int32_t num_groups = 0;
  for (std::int32_t i = 0; i < batch.num_formats; ++i) {
    const FormatView& f = batch.formats[i];
    const std::int32_t end = f.first_group + f.num_groups();
    FOVEA_ASSERT(end <= limits.max_row_groups, "{} row groups reached the planner, the limit is {}", end, limits.max_row_groups);
    for (std::int32_t g = 0; g < f.num_groups(); ++g) {
      arrays.groups[f.first_group + g] = make_row_group(batch, arrays.requests, i, g);
    }
    if (f.row_indptr != nullptr || f.block_rows > 0) {
      for (std::int32_t set = 0; set < f.num_row_sets; ++set) {
        if (arrays.groups[f.first_group + set * f.heads_per_set].rows >= 0) {
          make_row_refs(batch, f, arrays, set);
        }
      }
    }
    num_groups = max_(num_groups, end);
  }
  *arrays.num_groups = num_groups;
  *arrays.num_requests = batch.num_requests;
  make_composed_rows(batch, arrays);
}

}  // namespace fovea
