// What a plan has room for, from problem and choice alone, and how its arrays lie in memory.
#include <algorithm>
#include <vector>

#include "portable/schedule.h"
#include "src/problem/problem.h"
#include "src/schedule/schedule.h"
#include "src/support/check.h"

namespace fovea {

namespace {

constexpr std::int64_t kAlignment = 64;
constexpr std::int32_t kInvariantSplit = 2048;  // columns
constexpr std::int64_t kInvariantBytes = std::int64_t{1}
                                         << 30;  // of partial states, where the caller says nothing: a longer split before more
constexpr std::int64_t kMostSlots = (std::int64_t{1} << 31) - 1;

/// Bounds that follow from the limits, counted over all formats. A format holds a query token in at most one row set.
struct Bounds {
  std::int64_t groups;              // with rows
  std::int64_t row_tiles;           // of those groups, in the last configuration's tiles; in other configurations a group has one
  std::int64_t heads;               // units of a row tile
  std::int64_t packed_rows_of_cut;  // of a group that may be cut
};

Bounds bounds_of(const Problem& problem, const KernelConfig& last) {
  const std::vector<KvFormat>& formats = problem.spec.formats;
  const auto per_head = [](const KvFormat& f) { return f.per_kv_head; };
  const std::int64_t num_kv_heads = problem.spec.num_kv_heads;
  // Row sets hold each token once per format; with tables per head there are as many groups of the same rows as there are heads.
  const std::int64_t tokens = problem.limits.max_query_tokens;
  const std::int64_t tokens_of_groups =
      static_cast<std::int64_t>(formats.size()) * tokens * (std::any_of(formats.begin(), formats.end(), per_head) ? num_kv_heads : 1);
  const std::int64_t tile = rows_per_tile(last, problem.group_size);
  Bounds b;
  b.groups = std::min<std::int64_t>(problem.limits.max_row_groups, tokens_of_groups);
  b.row_tiles =
      (tokens_of_groups * problem.group_size + b.groups * (tile - 1)) / tile;  // ceil(rows / tile) <= (rows + tile - 1) / tile, summed
  b.heads = std::all_of(formats.begin(), formats.end(), per_head) ? 1 : num_kv_heads;
  const Policy policy = problem.options.policy;
  const std::int64_t tokens_of_cut = policy == Policy::batch_invariant ? problem.limits.max_query_tokens_per_request : tokens;
  b.packed_rows_of_cut = tokens_of_cut * problem.group_size;
  if (policy != Policy::throughput) {
    b.packed_rows_of_cut = std::min<std::int64_t>(b.packed_rows_of_cut, kMaxRowsOfFixedSplit);
  }
  return b;
}

/// a * b, or 2^60 where that is more.
std::int64_t capped_product(std::int64_t a, std::int64_t b) {
  constexpr std::int64_t kMost = std::int64_t{1} << 60;
  std::int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? kMost : std::min(product, kMost);
}

/// Most partial states that cuts at every `split` columns can leave. A unit that is cut is of a group of at most kMaxRowsOfFixedSplit
/// packed rows with c > split columns, and has at most ceil(c / split) <= c / split + 1 chunks. Limits::max_kv_tokens bounds the columns of
/// all groups and formats together (once per kv head), so that over one row tile of every group and all kv heads the c add up to at most
/// `columns`, and at most columns / (split + 1) of them are cut. And no group has more columns than a request may have tokens.
std::int64_t max_fixed_slots(const Problem& problem, const Bounds& b, const KernelConfig& config, std::int64_t split) {
  const Limits& limits = problem.limits;
  const std::int64_t chunks_of_group = ceil_div<std::int64_t>(limits.max_kv_tokens_per_request, split);
  if (chunks_of_group < 2) {
    return 0;
  }
  const std::int64_t row_tiles_of_group = ceil_div<std::int64_t>(b.packed_rows_of_cut, rows_per_tile(config, problem.group_size));
  const std::int64_t units = b.groups * b.heads;
  const std::int64_t columns = limits.max_kv_tokens * problem.spec.num_kv_heads;
  return capped_product(row_tiles_of_group,
                        std::min(capped_product(units, chunks_of_group), columns / split + std::min(units, columns / (split + 1))));
}

std::int64_t aligned(std::int64_t bytes) { return ceil_div(bytes, kAlignment) * kAlignment; }

/// Slots, and by `capacity.split_tokens` what they are cut by. Fixed splits may need more than they may have.
std::int64_t size_slots(const Problem& problem, const Choice& choice, const Bounds& bounds, std::int64_t affordable,
                        PlanCapacity& capacity) {
  const PrepareOptions& options = problem.options;
  if (options.policy == Policy::throughput) {
    return std::min<std::int64_t>(2 * choice.num_workers, affordable);
  }
  if (options.policy == Policy::fixed_split) {
    capacity.split_tokens = options.fixed_split;
    for (const KernelConfig& config : choice.configs) {
      FOVEA_ASSERT(options.fixed_split % config.tile_kv == 0, "kernel {} with a kv tile of {} took fixed_split = {}", choice.kernel,
                   config.tile_kv, options.fixed_split);
    }
  } else {
    FOVEA_ASSERT(choice.configs.size() == 1, "policy batch_invariant with {} kernel configurations", choice.configs.size());
    capacity.split_tokens = ceil_div(kInvariantSplit, choice.configs[0].tile_kv) * choice.configs[0].tile_kv;
  }
  // The last configuration is the one where a group can have several row tiles.
  const KernelConfig& config = choice.configs.back();
  std::int64_t slots = max_fixed_slots(problem, bounds, config, capacity.split_tokens);
  while (slots > affordable && options.policy == Policy::batch_invariant && capacity.split_tokens < kUnbounded / 2) {
    capacity.split_tokens *= 2;  // still a function of the prepared problem alone
    slots = max_fixed_slots(problem, bounds, config, capacity.split_tokens);
  }
  return slots;
}

/// How many slots `workspace` bytes hold beside the level states. Negative: no bound, but for splits that can be made longer.
std::int64_t affordable_slots(const Problem& problem, std::int64_t slot_bytes, std::int64_t level_bytes) {
  const std::int64_t workspace = problem.options.max_workspace_bytes;
  if (workspace >= 0) {
    return std::min(kMostSlots, std::max<std::int64_t>(0, workspace - level_bytes) / slot_bytes);
  }
  return problem.options.policy == Policy::batch_invariant ? kInvariantBytes / slot_bytes : kMostSlots;
}

void check_configs(const Problem& problem, const Choice& choice) {
  for (const KernelConfig& config : choice.configs) {
    FOVEA_ASSERT(config.tile_q > 0 && config.tile_kv > 0 && config.cost.fixed > 0 && config.cost.per_tile > 0,
                 "kernel configuration of {} x {} with cost {} + {} a tile", config.tile_q, config.tile_kv, config.cost.fixed,
                 config.cost.per_tile);
    const std::uint64_t tiles = static_cast<std::uint64_t>(ceil_div(problem.limits.max_kv_tokens_per_request, config.tile_kv));
    FOVEA_ASSERT((tiles + 1) * config.cost.per_tile + config.cost.fixed + config.cost.per_partial < (std::uint64_t{1} << 32),
                 "cost of {} tiles at {} each", tiles, config.cost.per_tile);
    FOVEA_ASSERT(config.form == PlanForm::list || problem.options.policy == Policy::throughput,
                 "a ranges configuration needs policy throughput");
  }
  FOVEA_ASSERT(choice.configs.back().form == PlanForm::list,
               "the last kernel configuration has groups of any number of rows; it is a list");
}

/// Hands out adjacent aligned arrays; with a null base it only counts.
class Layout {
 public:
  explicit Layout(void* base) : base_(static_cast<std::byte*>(base)) {}
  template <class T>
  void place(T*& array, std::int64_t count) {
    array = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += aligned(count * static_cast<std::int64_t>(sizeof(T)));
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  std::int64_t bytes_ = 0;
};

/// What most plans fill comes first, what few fill last: used_bytes() is then one piece most of the time.
PlanArraysMut lay_out(const PlanCapacity& c, Layout& layout) {
  PlanArraysMut a{};
  a.mask_groups.resize(static_cast<std::size_t>(c.max_mask_groups));
  layout.place(a.num_groups, 1);
  layout.place(a.num_composed, 1);
  layout.place(a.num_requests, 1);
  layout.place(a.requests, c.max_requests);
  layout.place(a.groups, c.max_row_groups);
  for (MaskGroupArrays& mask_group : a.mask_groups) {
    layout.place(mask_group.num_slots, 1);
    for (std::int32_t i = 0; i < c.num_configs; ++i) {
      ScheduleArrays& s = mask_group.schedules[i];
      layout.place(s.num_items, 1);
      layout.place(s.num_merges, 1);
      layout.place(s.cursors, c.max_items[i] == 0 ? c.num_workers : 0);
      layout.place(s.merges, c.max_merges[i]);
    }
    for (std::int32_t i = 0; i < c.num_configs; ++i) {
      layout.place(mask_group.schedules[i].items, c.max_items[i]);
    }
  }
  layout.place(a.composed, c.max_composed_rows);
  layout.place(a.row_refs, c.max_row_refs);
  layout.place(a.work, c.max_row_groups);
  layout.place(a.row_tiles, c.max_row_tiles);
  layout.place(a.seen_rows, ceil_div(c.max_query_tokens, 64));
  return a;
}

}  // namespace

PlanCapacity plan_capacity(const Problem& problem, const Choice& choice) {
  check_configs(problem, choice);
  const Limits& limits = problem.limits;
  const Bounds bounds = bounds_of(problem, choice.configs.back());
  const std::int64_t num_formats = static_cast<std::int64_t>(problem.spec.formats.size());

  PlanCapacity c;
  std::int64_t rows_per_slot = 0;
  for (const KernelConfig& config : choice.configs) {
    rows_per_slot = std::max<std::int64_t>(rows_per_slot, rows_per_tile(config, problem.group_size));
  }
  rows_per_slot = std::min(rows_per_slot, bounds.packed_rows_of_cut);
  const std::int64_t row_bytes = (problem.spec.head_dim_vo + 1) * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t level_rows = problem.composed() ? num_formats * limits.max_query_tokens * problem.spec.num_qo_heads : 0;
  PlanNeeds needs{.row_refs = num_formats * limits.max_query_tokens,
                  .row_tiles = bounds.row_tiles,
                  .bytes_per_state = rows_per_slot * row_bytes,
                  .affordable_states = affordable_slots(problem, rows_per_slot * row_bytes, level_rows * row_bytes)};
  needs.partial_states = size_slots(problem, choice, bounds, needs.affordable_states, c);
  needs.work_items = bounds.row_tiles * bounds.heads + needs.partial_states;
  check_plan_needs(problem, needs);

  c.num_workers = choice.num_workers;
  c.num_configs = static_cast<std::int32_t>(choice.configs.size());
  c.max_requests = limits.max_requests;
  c.max_row_groups = limits.max_row_groups;
  c.max_row_refs = static_cast<std::int32_t>(needs.row_refs);
  c.max_query_tokens = limits.max_query_tokens;
  c.max_composed_rows = problem.composed() ? limits.max_query_tokens : 0;
  c.max_row_tiles = static_cast<std::int32_t>(needs.row_tiles);
  c.max_mask_groups = limits.max_mask_groups;
  c.max_slots = static_cast<std::int32_t>(needs.partial_states);
  c.rows_per_slot = static_cast<std::int32_t>(rows_per_slot);
  c.partial_rows = std::int64_t{c.max_slots} * c.rows_per_slot + level_rows;
  c.partial_bytes = c.partial_rows * row_bytes;
  for (std::int32_t i = 0; i < c.num_configs; ++i) {
    c.max_merges[i] = c.max_slots / 2;  // a merge has at least two
    if (choice.configs[static_cast<std::size_t>(i)].form == PlanForm::list) {
      const std::int64_t row_tiles = i + 1 < c.num_configs ? bounds.groups : bounds.row_tiles;  // no more than those of the last
      c.max_items[i] = static_cast<std::int32_t>(row_tiles * bounds.heads) + c.max_slots;
    }
  }
  Layout layout(nullptr);
  lay_out(c, layout);
  c.plan_bytes = layout.bytes();
  return c;
}

PlanArraysMut lay_out_plan(const PlanCapacity& capacity, void* memory) {
  Layout layout(memory);
  return lay_out(capacity, layout);
}

WorkBounds most_work(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, bool shares_rows) {
  const Limits& limits = problem.limits;
  const std::int64_t rows = std::int64_t{shares_rows ? limits.max_query_tokens : limits.max_query_tokens_per_request} * problem.group_size;
  const std::int32_t last =
      config_of(choice.configs.data(), capacity.num_configs, static_cast<std::int32_t>(std::min<std::int64_t>(rows, INT32_MAX)));
  WorkBounds work{.items = {}, .merges = 0, .composed_rows = capacity.max_composed_rows};
  for (std::int32_t c = 0; c <= last; ++c) {
    work.items[c] = capacity.max_items[c] == 0 ? capacity.num_workers : capacity.max_items[c];
    work.merges = static_cast<std::int32_t>(std::min<std::int64_t>(std::int64_t{work.merges} + capacity.max_merges[c], INT32_MAX));
  }
  return work;
}

PlanArrays plan_arrays(const PlanArraysMut& arrays, std::int32_t mask_group, std::int32_t num_configs) {
  PlanArrays view{};
  view.requests = arrays.requests;
  view.groups = arrays.groups;
  view.row_refs = arrays.row_refs;
  view.composed = arrays.composed;
  view.num_composed = arrays.num_composed;
  view.num_groups = arrays.num_groups;
  const MaskGroupArrays& group = arrays.mask_groups[static_cast<std::size_t>(mask_group)];
  for (std::int32_t c = 0; c < num_configs; ++c) {
    const ScheduleArrays& s = group.schedules[c];
    view.schedules[c] = {.cursors = s.cursors, .items = s.items, .num_items = s.num_items, .merges = s.merges, .num_merges = s.num_merges};
  }
  return view;
}

}  // namespace fovea
