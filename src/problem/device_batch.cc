// check_device_batch: one step whose integers are in device memory. What the host can see is checked here (shapes, devices, which tables go
// together); values are checked by the planner where it reads them (portable/batch_view.h).
#include "src/problem/batch_check.h"

namespace fovea {
namespace {

class DeviceBatchCheck {
 public:
  DeviceBatchCheck(const Problem& problem, const Batch& batch, Device device) : problem_(problem), batch_(batch), device_(device) {}

  BatchView check() {
    check_requests();
    FOVEA_CHECK(batch_.kv.size() == problem_.spec.formats.size(), "plan: kv has {} tables but the spec has {} formats", batch_.kv.size(),
                problem_.spec.formats.size());
    view_.num_formats = static_cast<std::int32_t>(batch_.kv.size());
    for (std::int32_t i = 0; i < view_.num_formats; ++i) {
      check_format(i);
    }
    return view_;
  }

 private:
  Argument argument(std::string_view field) const { return {"plan", "", -1, field}; }
  Argument argument(std::int32_t format, std::string_view field) const { return {"plan", "kv", format, field}; }
  const KvTables& tables(std::int32_t i) const { return batch_.kv[static_cast<std::size_t>(i)]; }

  const std::int32_t* optional_vector(const Argument& name, const TensorView& tensor, std::int64_t count) const {
    if (!tensor.defined()) {
      return nullptr;
    }
    check_any_vector(name, tensor, DType::i32, device_);
    FOVEA_CHECK(tensor.dim(0) >= count, "plan: {} has {} entries; it needs {}", name, tensor.dim(0), count);
    return tensor.as<const std::int32_t>();
  }

  void check_requests() {
    const Limits& limits = problem_.limits;
    check_any_vector(argument("qo_indptr"), batch_.qo_indptr, DType::i32, device_);
    const std::int64_t num_requests = batch_.qo_indptr.dim(0) - 1;
    FOVEA_CHECK(num_requests >= 0, "plan: qo_indptr has no entries; it needs num_requests + 1");
    FOVEA_CHECK(num_requests <= limits.max_requests, "plan: {} requests are over limits.max_requests = {}", num_requests,
                limits.max_requests);
    FOVEA_CHECK(batch_.max_query_tokens >= 0 && batch_.max_query_tokens <= limits.max_query_tokens,
                "plan: max_query_tokens = {}; it must be 0 to limits.max_query_tokens = {}", batch_.max_query_tokens,
                limits.max_query_tokens);
    view_.qo_indptr = batch_.qo_indptr.as<const std::int32_t>();
    view_.num_requests = static_cast<std::int32_t>(num_requests);
    view_.kv_len = optional_vector(argument("kv_len"), batch_.kv_len, num_requests);
    view_.q_pos = optional_vector(argument("q_pos"), batch_.q_pos, num_requests);
    if (batch_.num_requests.defined()) {
      check_vector(argument("num_requests"), batch_.num_requests, DType::i32, 1, device_);
    }
    view_.deferred = 1;
    view_.max_query_tokens = batch_.max_query_tokens > 0 ? batch_.max_query_tokens : limits.max_query_tokens;
    view_.max_query_tokens_per_request = limits.max_query_tokens_per_request;
    view_.max_kv_tokens_per_request = limits.max_kv_tokens_per_request;
  }

  /// Most row sets that format i can have.
  std::int64_t check_rows(std::int32_t i, FormatView& f) {
    const KvTables& t = tables(i);
    FOVEA_CHECK(t.row_indptr.defined() || !t.row_indices.defined(), "plan: kv[{}].row_indices is given without kv[{}].row_indptr", i, i);
    if (!t.row_indptr.defined()) {
      return f.block_rows > 0 ? ceil_div(view_.max_query_tokens, f.block_rows) : view_.num_requests;
    }
    check_any_vector(argument(i, "row_indptr"), t.row_indptr, DType::i32, device_);
    FOVEA_CHECK(f.block_rows == 0, "plan: kv[{}].row_indptr is given but formats[{}].block_rows = {} says what the rows of a group are", i,
                i, f.block_rows);
    const std::int64_t num_sets = t.row_indptr.dim(0) - 1;
    FOVEA_CHECK(num_sets >= 0 && num_sets <= problem_.limits.max_row_groups,
                "plan: kv[{}].row_indptr has {} entries; it needs 1 to limits.max_row_groups + 1 = {}", i, num_sets + 1,
                problem_.limits.max_row_groups + 1);
    f.row_indptr = t.row_indptr.as<const std::int32_t>();
    f.num_row_sets = static_cast<std::int32_t>(num_sets);
    if (t.row_indices.defined()) {
      check_any_vector(argument(i, "row_indices"), t.row_indices, DType::i32, device_);
      f.row_indices = t.row_indices.as<const std::int32_t>();
      f.num_row_entries = t.row_indices.dim(0);
    }
    return num_sets;
  }

  void check_csr(std::int32_t i, FormatView& f, std::int64_t groups) {
    const KvTables& t = tables(i);
    f.page_indptr = optional_vector(argument(i, "page_indptr"), t.page_indptr, groups + 1);
    if (f.has_table) {
      check_any_vector(argument(i, "page_indices"), t.page_indices, DType::i32, device_);
      f.num_entries = t.page_indices.dim(0);
      return;
    }
    FOVEA_CHECK(t.ragged_tokens > 0 && t.ragged_tokens < kMaxPosition,
                "plan: kv[{}].ragged_tokens = {}; with page_indptr on {} it is needed: at most so many tokens, which K and V of every run "
                "hold",
                i, t.ragged_tokens, device_.to_string());
    f.num_entries = t.ragged_tokens;
  }

  void check_table_2d(std::int32_t i, FormatView& f, std::int64_t groups) {
    const KvTables& t = tables(i);
    const Argument name = argument(i, "page_table");
    check_tensor(name, t.page_table, 2, "[rows, width]", device_);
    check_dtype(name, t.page_table, DType::i32);
    check_innermost(name, t.page_table);
    const std::int64_t rows = t.page_table.dim(0);
    FOVEA_CHECK(rows <= 1 || t.page_table.stride(0) >= 0, "plan: kv[{}].page_table has row stride {}; it must not be negative", i,
                t.page_table.stride(0));
    f.table_row_stride = rows <= 1 ? t.page_table.dim(1) : t.page_table.stride(0);
    f.table_rows = optional_vector(argument(i, "table_rows"), t.table_rows, groups);
    FOVEA_CHECK(f.table_rows != nullptr || rows >= groups, "plan: kv[{}].page_table has {} rows for {} groups; give more, or table_rows", i,
                rows, groups);
    f.num_table_rows = static_cast<std::int32_t>(rows);
    f.num_entries = t.page_table.dim(1);
  }

  /// The defaults of kv_len and kv_pos are sums over formats, which these formats have no part in.
  void check_defaults(std::int32_t i, const FormatView& f) const {
    FOVEA_CHECK(view_.kv_len != nullptr || !f.by_index,
                "plan: kv_len is not given; it is needed because positions in kv[{}] are storage indices", i);
    FOVEA_CHECK(view_.kv_len != nullptr || f.row_indices == nullptr,
                "plan: kv_len is not given; it is needed because kv[{}] lists its rows by row_indices", i);
    for (std::int32_t before = 0; f.kv_pos == nullptr && !f.by_index && before < i; ++before) {
      const FormatView& b = view_.formats[before];
      FOVEA_CHECK(!b.by_index && b.row_indices == nullptr, "plan: kv[{}].kv_pos is not given; it is needed because kv[{}] before it {}", i,
                  before, b.by_index ? "has storage indices for positions" : "lists its rows by row_indices");
    }
  }

  void check_format(std::int32_t i) {
    const KvFormat& format = problem_.spec.formats[static_cast<std::size_t>(i)];
    const KvTables& t = tables(i);
    FormatView& f = view_.formats[i];
    f.page_size = format.page_size;
    f.block_rows = format.block_rows;
    f.heads_per_set = format.per_kv_head ? problem_.spec.num_kv_heads : 1;
    f.has_table = format.has_table;
    f.by_index = format.by_index;
    f.kv_pos_stride = t.kv_pos_stride;
    f.deferred = 1;
    f.max_tokens = problem_.limits.max_kv_tokens_per_request;
    check_table_form(problem_, batch_, i);
    FOVEA_CHECK(1 <= f.kv_pos_stride && f.kv_pos_stride < kMaxPosition, "plan: kv[{}].kv_pos_stride = {}; it must be 1 to {}", i,
                f.kv_pos_stride, kMaxPosition - 1);
    const std::int64_t groups = check_rows(i, f) * f.heads_per_set;
    if (t.page_table.defined()) {
      check_table_2d(i, f, groups);
    } else {
      check_csr(i, f, groups);
    }
    f.last_page_len = optional_vector(argument(i, "last_page_len"), t.last_page_len, groups);
    f.kv_len = optional_vector(argument(i, "kv_len"), t.kv_len, groups);
    f.kv_pos = optional_vector(argument(i, "kv_pos"), t.kv_pos, groups);
    check_defaults(i, f);
  }

  const Problem& problem_;
  const Batch& batch_;
  const Device device_;
  BatchView view_{};
};

}  // namespace

bool is_on_device(const Batch& batch, Device device) { return device != Device{} && batch.qo_indptr.device == device; }

BatchView check_device_batch(const Problem& problem, const Batch& batch, Device device) {
  return DeviceBatchCheck(problem, batch, device).check();
}

PlannedBatch planned_device_batch(const BatchView& view, const Batch& batch) {
  PlannedBatch planned{.num_query_tokens = view.max_query_tokens, .shares_rows = shares_rows(view)};
  for (std::int32_t i = 0; i < view.num_formats; ++i) {
    const KvTables& tables = batch.kv[static_cast<std::size_t>(i)];
    const FormatView& f = view.formats[i];
    planned.page_ids[i] = tables.page_table.defined() ? tables.page_table : tables.page_indices;
    planned.tables[i] = planned.page_ids[i].as<const std::int32_t>();
    planned.ragged_tokens[i] = f.has_table ? 0 : static_cast<std::int32_t>(f.num_entries);
    planned.kv_pos_strides[i] = f.kv_pos_stride;
  }
  return planned;
}

namespace {

std::string of_group(const PlanStatus& s, std::string_view field) { return fmt::format("kv[{}].{}[{}]", s.format, field, s.index); }

std::string text_of(const PlanStatus& s) {
  switch (static_cast<BatchError>(s.error)) {
    case BatchError::none:
      break;
    case BatchError::num_requests:
      return fmt::format("num_requests = {}; it must be 0 to {}", s.value, s.bound);
    case BatchError::qo_indptr:
      return fmt::format("qo_indptr[{}] = {}; entries must start at 0, not decrease and stay within {}", s.index, s.value, s.bound);
    case BatchError::row_indptr:
      return fmt::format("row_indptr of a format starts after 0, decreases or ends beyond the batch's query tokens (at most {})", s.bound);
    case BatchError::row_indices:
      return fmt::format("row_indices of a format names a row that is none of the batch's query tokens (at most {})", s.bound);
    case BatchError::row_groups:
      return fmt::format("more row groups than limits.max_row_groups = {}", s.bound);
    case BatchError::kv_tokens:
      return fmt::format("the groups have more tokens than limits.max_kv_tokens = {}", s.bound);
    case BatchError::query_tokens:
      return fmt::format("request {} has {} query tokens, over limits.max_query_tokens_per_request = {}", s.index, s.value, s.bound);
    case BatchError::request_kv_len:
      return fmt::format("kv_len[{}] = {}; it must be 0 to limits.max_kv_tokens_per_request = {}", s.index, s.value, s.bound);
    case BatchError::request_tokens:
      return fmt::format("the tables of request {} hold {} tokens; they may hold {}", s.index, s.value, s.bound);
    case BatchError::q_pos:
      return fmt::format("q_pos[{}] = {}; positions are between {} and {}", s.index, s.value, -kMaxPosition, kMaxPosition);
    case BatchError::page_indptr:
      return fmt::format("kv[{}].page_indptr of group {} ends at {}; entries must not decrease and stay within {}", s.format, s.index,
                         s.value, s.bound);
    case BatchError::last_page_len:
      return fmt::format("{} = {}; it must be 1 to page_size = {}", of_group(s, "last_page_len"), s.value, s.bound);
    case BatchError::kv_len:
      return fmt::format("{} = {}; it must be 0 to the {} tokens its pages hold", of_group(s, "kv_len"), s.value, s.bound);
    case BatchError::tokens:
      return fmt::format("group {} of kv[{}] has {} tokens or pages, over limits.max_kv_tokens_per_request = {}", s.index, s.format,
                         s.value, s.bound);
    case BatchError::table_rows:
      return fmt::format("{} = {}; kv[{}].page_table has rows 0 to {}", of_group(s, "table_rows"), s.value, s.format, s.bound);
    case BatchError::kv_pos:
      return fmt::format("{} = {}; positions must stay within 0 and {}", of_group(s, "kv_pos"), s.value, s.bound);
  }
  return fmt::format("error {} at {}: {}, bound {}", s.error, s.index, s.value, s.bound);
}

}  // namespace

std::string describe(const PlanStatus& status) {
  const bool whole = status.error <= static_cast<std::int32_t>(BatchError::kv_tokens);
  return fmt::format("plan: {}; found on the device: {}", text_of(status),
                     whole ? "the batch was planned as an empty one, nothing is written"
                           : "that part of the batch was planned without columns (o = 0, lse = -inf)");
}

}  // namespace fovea
