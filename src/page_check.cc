#include "src/page_check.h"

#include <vector>

#include "portable/work_iterator.h"
#include "src/support/check.h"

namespace fovea {

namespace {

/// Positions of all rows of a group, as kernels find them.
QueryPositions positions_of_rows(const KernelParams& params, const RowGroup& group) {
  if (group.rows < 0) {
    return query_positions(group, 0, packed_rows_of(group, params.group_size), params.group_size);
  }
  QueryPositions q{kAnyPosition, -kAnyPosition};
  for (std::int32_t i = 0; i < group.num_q_rows; ++i) {
    const RowRef& ref = params.plan.row_refs[group.rows + i];
    q = {min_(q.lo, ref.q_pos), max_(q.hi, ref.q_pos)};
  }
  return q;
}

void check_columns(std::string_view where, const Backend& backend, const RowGroup& group, const KvView& kv, std::int64_t num_pages,
                   Span columns) {
  if (columns.empty()) {
    return;
  }
  const std::int32_t first = columns.begin / kv.page_size;
  const std::int32_t last = (columns.end - 1) / kv.page_size;
  const std::int32_t* table = kv.table != nullptr ? kv.table + group.table_begin + first : nullptr;
  std::vector<std::int32_t> copy;
  if (table != nullptr && !backend.host_accessible()) {
    copy.resize(static_cast<std::size_t>(last - first) + 1);
    backend.copy_to_host(copy.data(), table, copy.size() * sizeof(std::int32_t));
    table = copy.data();
  }
  for (std::int32_t entry = first; entry <= last; ++entry) {
    const std::int64_t page = table != nullptr ? table[entry - first] : group.table_begin + entry;
    FOVEA_CHECK(
        page >= 0 && page < num_pages, "{}: format {}: page {} of {}, table entry {}, is {}; the cache has {} pages", where, group.format,
        entry,
        group.request >= 0 ? fmt::format("request {}", group.request) : fmt::format("the group of query token {}", group.q_row_begin),
        group.table_begin + entry, page, num_pages);
  }
}

}  // namespace

void check_page_ids(std::string_view where, const Backend& backend, const KernelParams& params, const std::int64_t* num_pages) {
  for (std::int32_t g = 0; g < *params.plan.num_groups; ++g) {
    const RowGroup& group = params.plan.groups[g];
    if (group.num_q_rows == 0) {
      continue;
    }
    const KvView& kv = params.kv[group.format];
    const SpanPair columns = visible_columns(group, params.range, positions_of_rows(params, group), kv.by_index != 0);
    check_columns(where, backend, group, kv, num_pages[group.format], columns.first);
    check_columns(where, backend, group, kv, num_pages[group.format], columns.second);
  }
}

}  // namespace fovea
