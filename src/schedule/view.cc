// A plan as a value: walks it with the same iterator as kernels do.
#include "portable/schedule.h"
#include "portable/work_iterator.h"
#include "src/schedule/schedule.h"

namespace fovea {

namespace {

PlannedWork planned_work(const KernelParams& params, const WorkItem& item, std::int32_t worker) {
  return {.worker = worker,
          .format = params.plan.groups[item.row_group].format,
          .row_group = item.row_group,
          .kv_head = item.kv_head,
          .row_begin = item.row_begin,
          .row_end = item.row_end,
          .col_begin = item.col_begin,
          .col_end = item.col_end,
          .partial_slot = item.partial_slot};
}

/// What an item costs its worker.
std::uint64_t cost_of_item(const KernelParams& params, const WorkItem& item) {
  const KernelConfig& config = params.configs[item.config];
  const RowGroup& group = params.plan.groups[item.row_group];
  const VisibleTiles tiles = unit_tiles(group, params.plan_range, item.row_begin, item.row_end, params.group_size, config.tile_kv,
                                        params.kv[group.format].by_index != 0);
  const UnitChunks unit{.tiles = tiles, .count = 1, .split_tiles = 0, .first_count = 0, .split_of_second = 0};
  const std::int32_t visible = unit.ordinal(ceil_div(item.col_end, config.tile_kv)) - unit.ordinal(item.col_begin / config.tile_kv);
  return cost_of_tiles(config.cost, visible) + (item.partial_slot >= 0 ? config.cost.per_partial : 0);
}

}  // namespace

PlanView describe_plan(const KernelParams& params, const PlanCapacity& capacity, std::int32_t num_requests, std::int32_t num_slots) {
  PlanView view;
  view.num_workers = params.num_workers;
  view.num_requests = num_requests;
  view.num_row_groups = *params.plan.num_groups;
  view.num_partial_slots = num_slots;
  view.max_partial_slots = capacity.max_slots;
  for (std::int32_t c = 0; c < params.num_configs; ++c) {
    view.num_merges += *params.plan.schedules[c].num_merges;
    if (params.configs[c].form == PlanForm::ranges) {
      view.worker_cost.resize(static_cast<std::size_t>(params.num_workers));
    }
  }
  for (std::int32_t w = 0; w < params.num_workers; ++w) {
    for (std::int32_t c = 0; c < params.num_configs; ++c) {
      if (params.configs[c].form != PlanForm::ranges) {
        continue;
      }
      WorkItem item;
      for (RangeWork work(params, c, w); work.next(item);) {
        view.work.push_back(planned_work(params, item, w));
        view.worker_cost[static_cast<std::size_t>(w)] += cost_of_item(params, item);
      }
    }
  }
  for (std::int32_t c = 0; c < params.num_configs; ++c) {
    const ScheduleView& schedule = params.plan.schedules[c];
    for (std::int32_t i = 0; params.configs[c].form == PlanForm::list && i < *schedule.num_items; ++i) {
      view.work.push_back(planned_work(params, schedule.items[i], -1));
    }
  }
  return view;
}

}  // namespace fovea
