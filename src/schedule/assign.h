// The steps of schedule(), one configuration at a time: serial loops around portable/schedule.h. Private to this folder.
#pragma once

#include <cstdint>
#include <span>

#include "portable/schedule.h"
#include "src/schedule/schedule.h"

namespace fovea {

/// One configuration's groups and where its part of the plan goes.
struct Assignment {
  const KernelConfig& config;
  std::int32_t config_index;
  std::int32_t num_workers;
  std::int32_t num_kv_heads;
  std::int32_t group_size;
  bool composed;
  std::uint64_t total_cost;
  Span slots;  // its part of the partial slots
  std::span<const RowGroup> groups;
  const GroupWork* work;  // one per group
  const VisibleTiles* row_tiles;
  const ScheduleArrays& out;
  std::int32_t max_items, max_merges;
};

/// Cursors and merges of form ranges. Returns the partial slots used.
std::int32_t assign_ranges(const Assignment& a);

/// Items and merges of form list. Returns the partial slots used.
std::int32_t assign_list(const Assignment& a, const ChunkRule& rule);

}  // namespace fovea
