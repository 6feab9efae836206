// What the planner kernel is given: a batch whose values only the device can read, the bounds it must keep, and where the plan goes.
#pragma once

#include "portable/batch_view.h"
#include "portable/config.h"
#include "portable/kv_range.h"
#include "portable/work.h"

namespace fovea {

inline constexpr int32_t kMaxMasksOfLaunch = 8;

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
  int32_t rows_of_tile[kMaxKernelConfigs];  // rows_per_tile()
  int32_t tile_shift[kMaxKernelConfigs];    // log2 of tile_kv; -1: no power of two
  int32_t num_configs, num_workers, num_kv_heads, group_size;
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
  int32_t write_groups;  // requests, groups, row refs, composed rows too
  char* scratch;         // num_masks times scratch_bytes, for what has no room in shared memory
  int64_t scratch_bytes;
};
static_assert(sizeof(PlannerParams) <= 4096, "a kernel's parameters");

}  // namespace fovea
