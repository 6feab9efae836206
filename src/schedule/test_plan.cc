#include "src/schedule/test_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <tuple>

namespace fovea::test {

namespace {

constexpr std::size_t kGuardBytes = 256;
constexpr std::uint8_t kGuard = 0x5c;

const std::int32_t* pointer(const std::vector<std::int32_t>& v) { return v.empty() ? nullptr : v.data(); }

}  // namespace

BatchView TestBatch::view(const Problem& problem) const {
  BatchView b{};
  b.qo_indptr = qo_indptr.data();
  b.kv_len = pointer(kv_len);
  b.q_pos = pointer(q_pos);
  b.num_requests = static_cast<std::int32_t>(qo_indptr.size()) - 1;
  b.num_formats = static_cast<std::int32_t>(formats.size());
  std::int32_t first_group = 0, first_row_ref = 0;
  for (std::int32_t i = 0; i < b.num_formats; ++i) {
    const FormatArrays& a = formats[static_cast<std::size_t>(i)];
    const KvFormat& spec = problem.spec.formats[static_cast<std::size_t>(i)];
    FormatView& f = b.formats[i];
    f.page_indptr = pointer(a.page_indptr);
    f.last_page_len = pointer(a.last_page_len);
    f.kv_len = pointer(a.kv_len);
    f.row_indptr = pointer(a.row_indptr);
    f.row_indices = pointer(a.row_indices);
    f.kv_pos = pointer(a.kv_pos);
    f.table_row_stride = a.page_indptr.empty() ? 64 : 0;
    f.kv_pos_stride = a.kv_pos_stride;
    f.page_size = spec.page_size;
    f.block_rows = spec.block_rows;
    f.heads_per_set = spec.per_kv_head ? problem.spec.num_kv_heads : 1;
    f.has_table = spec.has_table;
    f.by_index = spec.by_index;
    f.num_row_sets = f.row_indptr != nullptr ? static_cast<std::int32_t>(a.row_indptr.size()) - 1
                     : f.block_rows > 0      ? ceil_div(qo_indptr.back(), f.block_rows)
                                             : b.num_requests;
    f.first_group = first_group;
    f.first_row_ref = -1;
    if (f.row_indptr != nullptr || f.block_rows > 0) {
      f.first_row_ref = first_row_ref;
      first_row_ref += f.row_indptr != nullptr ? a.row_indptr.back() : qo_indptr.back();
    }
    first_group += f.num_groups();
  }
  return b;
}

TestBatch paged_batch(const Problem& problem, const std::vector<Lengths>& requests) {
  TestBatch batch;
  FormatArrays format{.page_indptr = {0}};
  const std::int32_t page_size = problem.spec.formats[0].page_size;
  for (const Lengths& r : requests) {
    batch.qo_indptr.push_back(batch.qo_indptr.back() + r.qo_len);
    const std::int32_t pages = ceil_div(r.kv_len, page_size);
    format.page_indptr.push_back(format.page_indptr.back() + pages);
    format.last_page_len.push_back(pages == 0 ? page_size : r.kv_len - (pages - 1) * page_size);
  }
  batch.formats = {format};
  return batch;
}

TestPlan::TestPlan(const Problem& problem, const Choice& choice, const TestBatch& batch, KvRange range, std::uint8_t poison)
    : capacity_(plan_capacity(problem, choice)), batch_(batch.view(problem)) {
  const std::size_t bytes = static_cast<std::size_t>(capacity_.plan_bytes);
  memory_.assign(bytes + kGuardBytes + 64, poison);
  std::uint8_t* base = memory_.data() + (64 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 64);
  std::memset(base + bytes, kGuard, kGuardBytes);
  arrays_ = lay_out_plan(capacity_, base);
  make_groups(problem, batch_, arrays_);
  schedule(problem, choice, capacity_, batch_, range, 0, arrays_);
  params_.plan = plan_arrays(arrays_, 0, capacity_.num_configs);
  params_.num_configs = capacity_.num_configs;
  std::copy(choice.configs.begin(), choice.configs.end(), params_.configs);
  params_.num_formats = batch_.num_formats;
  for (std::int32_t f = 0; f < batch_.num_formats; ++f) {
    params_.kv[f].by_index = batch_.formats[f].by_index;
  }
  params_.num_workers = choice.num_workers;
  params_.num_qo_heads = problem.spec.num_qo_heads;
  params_.num_kv_heads = problem.spec.num_kv_heads;
  params_.group_size = problem.group_size;
  params_.range = params_.plan_range = range;
}

bool TestPlan::guard_intact() const {
  const std::uint8_t* base = memory_.data() + (64 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 64);
  const std::uint8_t* guard = base + capacity_.plan_bytes;
  return std::all_of(guard, guard + kGuardBytes, [](std::uint8_t byte) { return byte == kGuard; });
}

PlanView TestPlan::view() const { return describe_plan(params_, capacity_, batch_.num_requests, num_slots()); }

std::vector<WorkItem> TestPlan::items() const {
  std::vector<WorkItem> items;
  for (std::int32_t c = 0; c < params_.num_configs; ++c) {
    const ScheduleView& s = params_.plan.schedules[c];
    if (params_.configs[c].form == PlanForm::list) {
      items.insert(items.end(), s.items, s.items + *s.num_items);
      continue;
    }
    for (std::int32_t w = 0; w < params_.num_workers; ++w) {
      WorkItem item;
      for (RangeWork work(params_, c, w); work.next(item);) {
        items.push_back(item);
      }
    }
  }
  return items;
}

std::vector<MergeItem> TestPlan::merges() const {
  std::vector<MergeItem> merges;
  for (std::int32_t c = 0; c < params_.num_configs; ++c) {
    const ScheduleView& s = params_.plan.schedules[c];
    merges.insert(merges.end(), s.merges, s.merges + *s.num_merges);
  }
  return merges;
}

std::string TestPlan::bytes() const {
  std::string all;
  const auto append = [&all](const void* array, std::size_t count, std::size_t element_bytes) {
    all.append(static_cast<const char*>(array), count * element_bytes);
  };
  const auto count = [](const std::int32_t* n) { return static_cast<std::size_t>(*n); };
  const PlanArrays& p = params_.plan;
  append(p.requests, static_cast<std::size_t>(batch_.num_requests), sizeof(Request));
  for (std::int32_t g = 0; g < *p.num_groups; ++g) {
    append(p.groups + g, 1, offsetof(RowGroup, kv_head) + sizeof(RowGroup::kv_head));  // not its padding
  }
  append(p.composed, count(p.num_composed), sizeof(ComposedRow));
  for (std::int32_t c = 0; c < params_.num_configs; ++c) {
    const ScheduleView& s = p.schedules[c];
    append(s.cursors, params_.configs[c].form == PlanForm::ranges ? static_cast<std::size_t>(params_.num_workers) : 0,
           sizeof(WorkerCursor));
    append(s.items, count(s.num_items), sizeof(WorkItem));
    append(s.merges, count(s.num_merges), sizeof(MergeItem));
  }
  return all;
}

// ---- What must be true of any plan ------------------------------------------------------------------------------------------------------

namespace {

/// Row of a group: its query token and position.
struct Row {
  std::int32_t token, position;
};

Row row_of(const KernelParams& params, const RowGroup& group, std::int32_t q_row) {
  if (group.rows < 0) {
    return {group.q_row_begin + q_row, group.q_pos + q_row};
  }
  const RowRef& ref = params.plan.row_refs[group.rows + q_row];
  return {ref.row, ref.q_pos};
}

/// Does the planner have to plan for this (row, column)? The definition of KvRange, not its closed forms.
bool sees(const KernelParams& params, const RowGroup& group, const Row& row, std::int32_t column) {
  if (params.kv[group.format].by_index) {
    return true;
  }
  const std::int64_t q = row.position;
  const std::int64_t k = group.kv_pos + static_cast<std::int64_t>(column) * group.kv_pos_stride;
  const KvRange& range = params.plan_range;
  const bool chunk = range.chunk == 0 || k / range.chunk == q / range.chunk;
  return k <= q + range.right && (k >= q - range.left || k < range.num_sink) && chunk;
}

class PromiseCheck {
 public:
  PromiseCheck(const Problem& problem, const TestPlan& plan)
      : problem_(problem), plan_(plan), params_(plan.params()), items_(plan.items()), merges_(plan.merges()) {}

  std::string run() {
    check_row_refs();
    check_items();
    check_coverage();
    check_slots();
    check_finalised();
    check_composed();
    if (!plan_.guard_intact()) {
      fail("the bytes behind the plan were written");
    }
    return broken_;
  }

 private:
  using Unit = std::tuple<std::int32_t, std::int32_t, std::int32_t, std::int32_t>;  // group, kv head, row begin, row end

  template <class... Args>
  void fail(fmt::format_string<Args...> text, Args&&... args) {
    if (broken_.empty()) {
      broken_ = fmt::format(text, std::forward<Args>(args)...);
    }
  }
  const RowGroup& group_of(std::int32_t g) const { return params_.plan.groups[g]; }
  bool has_head(const RowGroup& group, std::int32_t head) const {
    return group.kv_head == kAllHeads ? head < params_.num_kv_heads : head == group.kv_head;
  }

  /// References say what requests say of the row, and let it see every column of its groups (which clamp to their own).
  void check_row_refs() {
    for (std::int32_t g = 0; g < *params_.plan.num_groups; ++g) {
      const RowGroup& group = group_of(g);
      for (std::int32_t i = 0; group.rows >= 0 && i < group.num_q_rows; ++i) {
        const RowRef& ref = params_.plan.row_refs[group.rows + i];
        const Request& request = params_.plan.requests[ref.request];
        const std::int32_t q_row = ref.row - request.qo_begin;
        if (q_row < 0 || q_row >= request.qo_len || ref.q_pos != request.q_pos + q_row || ref.col_end < group.num_cols) {
          fail("row {} of group {} is token {} of request {} at {}, and sees columns up to {} of {}", i, g, ref.row, ref.request, ref.q_pos,
               ref.col_end, group.num_cols);
        }
      }
    }
  }

  void check_items() {
    for (const WorkItem& item : items_) {
      const RowGroup& group = group_of(item.row_group);
      const std::int32_t rows = packed_rows_of(group, params_.group_size);
      const KernelConfig& config = params_.configs[item.config];
      if (config_of(params_.configs, params_.num_configs, rows) != item.config) {
        fail("group {} of {} packed rows is in configuration {}", item.row_group, rows, item.config);
      }
      if (!(0 <= item.row_begin && item.row_begin < item.row_end && item.row_end <= rows &&
            item.row_end - item.row_begin <= config.tile_q)) {
        fail("rows {}..{} of group {} with {}", item.row_begin, item.row_end, item.row_group, rows);
      }
      if (params_.group_size <= config.tile_q && (item.row_begin % params_.group_size != 0 || item.row_end % params_.group_size != 0)) {
        fail("rows {}..{} cut a query token", item.row_begin, item.row_end);
      }
      if (!(0 <= item.col_begin && item.col_begin <= item.col_end && item.col_end <= group.num_cols) ||
          item.col_begin % config.tile_kv != 0 || (item.col_end % config.tile_kv != 0 && item.col_end != group.num_cols)) {
        fail("columns {}..{} of {} in tiles of {}", item.col_begin, item.col_end, group.num_cols, config.tile_kv);
      }
      if (!has_head(group, item.kv_head) || item.flags != 0) {
        fail("kv head {}, flags {}", item.kv_head, item.flags);
      }
      check_no_invisible_end(item, group, config);
    }
  }

  /// An item's first and last tile have something to see (for rows at known positions); an empty item is alone on its unit.
  void check_no_invisible_end(const WorkItem& item, const RowGroup& group, const KernelConfig& config) {
    if (item.col_begin == item.col_end || group.rows >= 0) {
      return;
    }
    const auto tile_visible = [&](std::int32_t begin) {
      for (std::int32_t row = item.row_begin / params_.group_size; row <= (item.row_end - 1) / params_.group_size; ++row) {
        for (std::int32_t c = begin; c < min_(begin + config.tile_kv, group.num_cols); ++c) {
          if (sees(params_, group, row_of(params_, group, row), c)) {
            return true;
          }
        }
      }
      return false;
    };
    if (!tile_visible(item.col_begin) || !tile_visible((item.col_end - 1) / config.tile_kv * config.tile_kv)) {
      fail("group {} rows {}..{} columns {}..{} begin or end with an invisible tile", item.row_group, item.row_begin, item.row_end,
           item.col_begin, item.col_end);
    }
  }

  void check_coverage() {
    std::map<std::pair<std::int32_t, std::int32_t>, std::vector<const WorkItem*>> by_head;
    for (const WorkItem& item : items_) {
      by_head[{item.row_group, item.kv_head}].push_back(&item);
    }
    for (std::int32_t g = 0; g < *params_.plan.num_groups; ++g) {
      for (std::int32_t h = 0; h < params_.num_kv_heads; ++h) {
        if (has_head(group_of(g), h)) {
          check_coverage(g, h, by_head[{g, h}]);
        }
      }
    }
  }

  void check_coverage(std::int32_t g, std::int32_t head, const std::vector<const WorkItem*>& items) {
    const RowGroup& group = group_of(g);
    const std::size_t columns = static_cast<std::size_t>(group.num_cols);
    const std::int32_t rows = packed_rows_of(group, params_.group_size);
    std::vector<std::uint8_t> times(static_cast<std::size_t>(rows) * columns);
    for (const WorkItem* item : items) {
      for (std::int32_t row = item->row_begin; row < item->row_end; ++row) {
        for (std::int32_t c = item->col_begin; c < item->col_end; ++c) {
          ++times[static_cast<std::size_t>(row) * columns + static_cast<std::size_t>(c)];
        }
      }
    }
    for (std::int32_t row = 0; row < rows; ++row) {
      const Row at = row_of(params_, group, row / params_.group_size);
      for (std::int32_t c = 0; c < group.num_cols; ++c) {
        const std::uint8_t n = times[static_cast<std::size_t>(row) * columns + static_cast<std::size_t>(c)];
        if (n > 1 || (n == 0 && sees(params_, group, at, c))) {
          fail("group {} kv head {} packed row {} column {} is covered {} times", g, head, row, c, n);
        }
      }
    }
  }

  void check_slots() {
    std::map<std::int32_t, const WorkItem*> written;
    for (const WorkItem& item : items_) {
      if (item.partial_slot == (problem_.composed() ? kLevelState : kFinal)) {
        continue;
      }
      if (item.partial_slot < 0 || item.partial_slot >= plan_.capacity().max_slots) {
        fail("slot {} of {}", item.partial_slot, plan_.capacity().max_slots);
      }
      if (item.row_end - item.row_begin > plan_.capacity().rows_per_slot) {
        fail("{} rows in a slot of {}", item.row_end - item.row_begin, plan_.capacity().rows_per_slot);
      }
      if (!written.emplace(item.partial_slot, &item).second) {
        fail("slot {} is written twice", item.partial_slot);
      }
    }
    if (static_cast<std::int32_t>(written.size()) != plan_.num_slots()) {
      fail("{} slots are written, the plan says {}", written.size(), plan_.num_slots());
    }
    std::size_t read = 0;
    std::set<Unit> merged;
    for (const MergeItem& merge : merges_) {
      if (merge.num_slots < 2 || !merged.emplace(merge.row_group, merge.kv_head, merge.row_begin, merge.row_end).second) {
        fail("merge of {} slots of group {}", merge.num_slots, merge.row_group);
      }
      std::int32_t columns = -1;
      for (std::int32_t s = merge.slot_begin; s < merge.slot_begin + merge.num_slots; ++s, ++read) {
        const auto found = written.find(s);
        if (found == written.end()) {
          fail("a merge reads slot {}, which nobody writes", s);
          continue;
        }
        const WorkItem& item = *found->second;
        if (item.row_group != merge.row_group || item.kv_head != merge.kv_head || item.config != merge.config ||
            item.row_begin != merge.row_begin || item.row_end != merge.row_end) {
          fail("slot {} is of group {} rows {}..{}, its merge of group {} rows {}..{}", s, item.row_group, item.row_begin, item.row_end,
               merge.row_group, merge.row_begin, merge.row_end);
        }
        if (item.col_begin <= columns) {
          fail("slot {} begins at column {}, the one before it at {}", s, item.col_begin, columns);
        }
        columns = item.col_begin;
      }
    }
    if (read != written.size()) {
      fail("{} slots are written, {} read", written.size(), read);
    }
    check_merge_order();
  }

  void check_merge_order() {
    for (std::size_t i = 1; i < merges_.size(); ++i) {
      const MergeItem& a = merges_[i - 1];
      const MergeItem& b = merges_[i];
      const auto place = [](const MergeItem& m) { return std::tuple(m.config, m.row_group, m.kv_head, m.row_begin); };
      if (!(place(a) < place(b)) || a.slot_begin + a.num_slots > b.slot_begin) {
        fail("merge {} (group {} kv head {} slot {}) comes before group {} kv head {} slot {}", i - 1, a.row_group, a.kv_head, a.slot_begin,
             b.row_group, b.kv_head, b.slot_begin);
      }
    }
  }

  /// Every (format, query token, head): states written whole, by an item or by a merge.
  void check_finalised() {
    std::map<std::tuple<std::int32_t, std::int32_t, std::int32_t>, std::int32_t> times;
    const auto count = [&](std::int32_t g, std::int32_t head, std::int32_t begin, std::int32_t end) {
      const RowGroup& group = group_of(g);
      for (std::int32_t row = begin; row < end; ++row) {
        ++times[{group.format, row_of(params_, group, row / params_.group_size).token,
                 head * params_.group_size + row % params_.group_size}];
      }
    };
    for (const WorkItem& item : items_) {
      if (item.partial_slot < 0) {
        count(item.row_group, item.kv_head, item.row_begin, item.row_end);
      }
    }
    for (const MergeItem& merge : merges_) {
      count(merge.row_group, merge.kv_head, merge.row_begin, merge.row_end);
    }
    std::int32_t num_tokens = 0;
    for (std::int32_t g = 0; g < *params_.plan.num_groups; ++g) {
      for (std::int32_t row = 0; row < group_of(g).num_q_rows; ++row) {
        num_tokens = max_(num_tokens, row_of(params_, group_of(g), row).token + 1);
      }
    }
    for (std::int32_t f = 0; f < params_.num_formats; ++f) {
      for (std::int32_t token = 0; token < num_tokens; ++token) {
        const bool held = !problem_.composed() || ((params_.plan.composed[token].level_mask >> f) & 1) != 0;
        for (std::int32_t head = 0; head < params_.num_qo_heads; ++head) {
          const auto found = times.find({f, token, head});
          const std::int32_t n = found == times.end() ? 0 : found->second;
          if (n != (held ? 1 : 0)) {
            fail("format {} query token {} head {} is written {} times, held: {}", f, token, head, n, held);
          }
        }
      }
    }
  }

  void check_composed() {
    const std::int32_t n = *params_.plan.num_composed;
    if (!problem_.composed() && n != 0) {
      fail("{} composed rows with one format", n);
    }
    for (std::int32_t i = 0; i < n; ++i) {
      const ComposedRow& row = params_.plan.composed[i];
      const Request& request = params_.plan.requests[row.request];
      if (row.row != i || row.row < request.qo_begin || row.row >= request.qo_begin + request.qo_len ||
          row.q_pos != request.q_pos + row.row - request.qo_begin) {
        fail("composed row {} is token {} of request {} at position {}", i, row.row, row.request, row.q_pos);
      }
    }
  }

  const Problem& problem_;
  const TestPlan& plan_;
  const KernelParams& params_;
  const std::vector<WorkItem> items_;
  const std::vector<MergeItem> merges_;
  std::string broken_;
};

}  // namespace

std::string broken_promise(const Problem& problem, const TestPlan& plan) { return PromiseCheck(problem, plan).run(); }

}  // namespace fovea::test
