// What the parts of check_batch() share. batch.cc: requests, rows and tables; positions.cc: lengths of requests and positions.
#pragma once

#include "src/problem/problem.h"
#include "src/problem/tensor_check.h"

namespace fovea {

struct BatchCheck {
  const Problem& problem;
  const Batch& batch;
  Device device;
  std::uint64_t* seen_rows;
  BatchView view{};
  std::int32_t num_query_tokens = 0;
  std::int32_t num_groups = 0;                  // of the formats checked so far
  std::int32_t cut_requests[kMaxFormats] = {};  // per format, a request whose rows are in several of its groups; -1: none
  std::int64_t shared_columns = 0;              // columns of the groups that all kv heads read
  std::int64_t head_columns = 0;                // of those that one reads

  Argument argument(std::string_view field) const { return {"plan", "", -1, field}; }
  Argument argument(std::int32_t format, std::string_view field) const { return {"plan", "kv", format, field}; }
  const KvTables& tables(std::int32_t format) const { return batch.kv[static_cast<std::size_t>(format)]; }
  const KvFormat& format(std::int32_t i) const { return problem.spec.formats[static_cast<std::size_t>(i)]; }
};

inline bool sets_are_requests(const FormatView& f) { return f.row_indptr == nullptr && f.block_rows == 0; }

/// tokens_of_group() for lengths that may not fit 32 bits yet.
inline std::int64_t wide_tokens_of(const FormatView& f, std::int32_t g) {
  if (f.kv_len != nullptr) {
    return f.kv_len[g];
  }
  const std::int64_t entries = f.page_indptr[g + 1] - f.page_indptr[g];
  if (f.last_page_len == nullptr || entries == 0) {
    return entries * f.page_size;
  }
  return (entries - 1) * f.page_size + f.last_page_len[g];
}

/// Exactly one of the two forms of tables, or the indptr of a ragged format; which of the lengths goes with which.
void check_table_form(const Problem& problem, const Batch& batch, std::int32_t format);

/// After all formats: how many tokens requests have, and where queries and keys stand.
void check_positions(const BatchCheck& check);

}  // namespace fovea
