// What the planner kernel is given: a batch whose values only the device can read, the bounds it must keep, and where the plan goes.
#pragma once

#include "portable/batch_view.h"
#include "portable/config.h"
#include "portable/kv_range.h"
#include "portable/work.h"

namespace fovea {

inline constexpr int32_t kMaxMasksOfLaunch = 8;

/// Division of 0 .. 2^31 - 1 by a number that the host knows: a product, which takes a tenth of the instructions.
struct Divisor {
  int32_t value, shift;
  uint32_t multiplier;
};
/// multiplier = floor(2^shift / value) + 1 is off by at most value / 2^shift, which 2^31 numbers don't add up to 1 while
/// 2^(shift - 31) >= value.
FOVEA_FN constexpr Divisor divisor(int32_t value) {
  int32_t shift = 31;
  while ((int64_t{1} << (shift - 31)) < value) {
    ++shift;
  }
  return {value, shift, static_cast<uint32_t>((uint64_t{1} << shift) / static_cast<uint64_t>(value) + 1)};
}
FOVEA_FN constexpr uint32_t operator/(uint32_t a, Divisor b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b.multiplier >> b.shift);
}
FOVEA_FN constexpr int32_t operator/(int32_t a, Divisor b) { return static_cast<int32_t>(static_cast<uint32_t>(a) / b); }
FOVEA_FN constexpr int32_t ceil_div(int32_t a, Divisor b) { return (a + b.value - 1) / b; }

/// The first thing found wrong with a device-resident batch. Written once; whoever reads it sets `error` back.
struct PlanStatus {
  int32_t error = 0;   // BatchError; written last
  int32_t format = 0;  // of a group
  int32_t index = 0;   // of the request or group
  int32_t value = 0;   // what was there
  int64_t bound = 0;   // what it may be at most
};

/// Where the part of one kernel configuration goes.
struct PlannerSchedule {
  WorkerCursor* cursors;
  WorkItem* items;
  MergeItem* merges;
  int32_t* num_items;
  int32_t* num_merges;
  int32_t max_items, max_merges;
};

struct PlannerMask {
  KvRange range;
  PlannerSchedule schedules[kMaxKernelConfigs];
  int32_t* num_slots;
};

struct PlannerParams {
  BatchView batch;              // counts are upper bounds
  const int32_t* num_requests;  // null: batch.num_requests
  PlanStatus* status;

  KernelConfig configs[kMaxKernelConfigs];
  Divisor rows_of_tile[kMaxKernelConfigs];  // rows_per_tile()
  Divisor tile_kv[kMaxKernelConfigs];
  Divisor cost_per_tile[kMaxKernelConfigs];
  Divisor num_kv_heads, group_size;
  int32_t num_configs, num_ranges_configs, num_workers;
  int32_t max_row_groups, max_slots;
  int32_t fixed_splits;  // cut by split_tokens; else by throughput_rule()
  int32_t split_tokens;
  uint32_t whole_formats;  // of fixed splits: formats whose groups stay whole
  int64_t max_kv_tokens;   // of fixed splits, over all groups, once per kv head

  Request* requests;
  RowGroup* groups;
  RowRef* row_refs;
  ComposedRow* composed;
  int32_t* num_groups;
  int32_t* num_composed;
  int32_t* planned_requests;

  PlannerMask masks[kMaxMasksOfLaunch];
  int32_t num_masks;
  int32_t simple;        // SimpleSource serves the batch
  int32_t small;         // all costs together stay below 2^31
  int32_t write_groups;  // requests, groups, row refs, composed rows too
  char* scratch;         // num_masks times scratch_bytes, for what has no room in shared memory
  int64_t scratch_bytes;
  int64_t groups_bytes;  // of them: of all but lists and the requests of general batches
};
static_assert(sizeof(PlannerParams) <= 4096, "a kernel's parameters");

}  // namespace fovea
