// PlanView as a table. Golden-tested: tests/golden/plans/.
#include <fmt/format.h>

#include "fovea/plan.h"

namespace fovea {

namespace {

std::string target_of(std::int32_t partial_slot) {
  switch (partial_slot) {
    case -1:
      return "final";
    case -2:
      return "level state";
    default:
      return fmt::format("slot {}", partial_slot);
  }
}

std::string span(std::int32_t begin, std::int32_t end) { return fmt::format("{}..{}", begin, end); }

}  // namespace

std::string PlanView::to_string() const {
  std::string text = fmt::format("{} workers, {} requests, {} row groups, {} work items, {} merges of {} partial states (room for {})\n",
                                 num_workers, num_requests, num_row_groups, work.size(), num_merges, num_partial_slots, max_partial_slots);
  text += fmt::format("{:>6}  {:>6}  {:>6}  {:>7}  {:>13}  {:>17}  {}\n", "worker", "format", "group", "kv head", "packed rows", "columns",
                      "to");
  for (const PlannedWork& item : work) {
    text += fmt::format("{:>6}  {:>6}  {:>6}  {:>7}  {:>13}  {:>17}  {}\n", item.worker < 0 ? "list" : std::to_string(item.worker),
                        item.format, item.row_group, item.kv_head, span(item.row_begin, item.row_end), span(item.col_begin, item.col_end),
                        target_of(item.partial_slot));
  }
  if (!worker_cost.empty()) {
    text += "cost of each worker, in kv tiles:";
    for (std::size_t w = 0; w < worker_cost.size(); ++w) {
      text += fmt::format("{}{:.1f}", w % 16 == 0 && w > 0 ? "\n                                  " : " ",
                          static_cast<double>(worker_cost[w]) / 16);
    }
    text += "\n";
  }
  return text;
}

}  // namespace fovea
