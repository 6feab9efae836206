// The host planner: from a checked batch to row groups, cursors, items and merge lists, in buffers sized once. Integers only; no
// allocation. The assignment itself is portable/schedule.h, which a planner kernel compiles too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "fovea/plan.h"
#include "portable/batch_view.h"
#include "src/backend.h"

namespace fovea {

/// What a plan has room for: a function of problem and choice alone.
struct PlanCapacity {
  std::int32_t num_workers = 0;
  std::int32_t num_configs = 0;
  std::int32_t max_requests = 0;
  std::int32_t max_row_groups = 0;
  std::int32_t max_row_refs = 0;
  std::int32_t max_composed_rows = 0;  // query tokens; 0 with one format
  std::int32_t max_query_tokens = 0;
  std::int32_t max_row_tiles = 0;                  // of all groups, without heads
  std::int32_t max_items[kMaxKernelConfigs] = {};  // form list
  std::int32_t max_merges[kMaxKernelConfigs] = {};
  std::int32_t max_slots = 0;  // partial states of all configurations together, a mask group at a time
  std::int32_t rows_per_slot = 0;
  std::int32_t max_mask_groups = 1;
  std::int32_t split_tokens = 0;  // columns between the cuts of policies other than throughput; a multiple of every tile_kv
  std::int64_t partial_rows = 0;  // rows of PartialView: slots, then level states
  std::int64_t partial_bytes = 0;
  std::int64_t plan_bytes = 0;  // all other arrays
};

/// Throws InvalidArgument where that is more than there can be (check_plan_needs).
PlanCapacity plan_capacity(const Problem& problem, const Choice& choice);

struct ScheduleArrays {
  WorkerCursor* cursors;
  WorkItem* items;
  MergeItem* merges;
  std::int32_t* num_items;
  std::int32_t* num_merges;
};

/// One mask group of a plan.
struct MaskGroupArrays {
  ScheduleArrays schedules[kMaxKernelConfigs];
  std::int32_t* num_slots;  // used
};

/// Scratch of schedule(): what one group costs.
struct GroupWork {
  std::uint64_t cost_before;   // of the groups before it in its configuration, all heads
  std::int32_t config;         // -1: no rows, no work
  std::int32_t heads;          // kv heads it has units for
  std::int32_t num_row_tiles;  // its visible tiles are row_tiles[first_row_tile ..]
  std::int32_t first_row_tile;
};

/// The arrays of one plan, laid out in one block of PlanCapacity::plan_bytes.
struct PlanArraysMut {
  Request* requests;
  RowGroup* groups;
  RowRef* row_refs;
  ComposedRow* composed;
  std::int32_t* num_groups;
  std::int32_t* num_composed;
  std::int32_t* num_requests;
  std::vector<MaskGroupArrays> mask_groups;  // max_mask_groups
  GroupWork* work;                           // scratch, as the next
  VisibleTiles* row_tiles;
  std::uint64_t* seen_rows;  // one bit per query token, for checks
};

PlanArraysMut lay_out_plan(const PlanCapacity& capacity, void* memory);

/// Requests, row groups, row refs and composed rows of a batch.
void make_groups(const Problem& problem, const BatchView& batch, PlanArraysMut& arrays);

/// Spreads the groups' work over workers for one mask.
WorkBounds schedule(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, const BatchView& batch, KvRange range,
                    std::int32_t mask_group, PlanArraysMut& arrays);

/// What any plan may hold. shares_rows: groups may hold rows of several requests; else none has more rows than a request.
WorkBounds most_work(const Problem& problem, const Choice& choice, const PlanCapacity& capacity, bool shares_rows);

/// The bytes of a plan that kernels read, ascending; small gaps are among them. At most max_parts(), mostly one.
void used_bytes(const PlanCapacity& capacity, const PlanArraysMut& arrays, const BatchView& batch, std::int32_t num_masks,
                std::vector<PlanBytes>& parts);
std::size_t max_parts(const PlanCapacity& capacity);

/// Formats whose groups may hold rows of several requests: whether one does now must not show in its rows' bits.
std::uint32_t shared_formats(const BatchView& batch);

/// Read-only view for kernels.
PlanArrays plan_arrays(const PlanArraysMut& arrays, std::int32_t mask_group, std::int32_t num_configs);

/// Everything a plan says, as a value. `params` as a kernel would get them (plan, configs, range, head counts).
PlanView describe_plan(const KernelParams& params, const PlanCapacity& capacity, std::int32_t num_requests, std::int32_t num_slots);

}  // namespace fovea
