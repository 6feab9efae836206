// The contract between planners and kernels: row groups, work items, cursors, merges. All ranges are half-open.
// Written by the host planner and by planner kernels, bit for bit the same; read by every attention kernel.
#pragma once

#include "portable/compat.h"

namespace fovea {

inline constexpr uint16_t kAllHeads = 0xffff;
inline constexpr int32_t kFinal = -1;       // WorkItem::partial_slot: the item has its rows whole: finalise and write o
inline constexpr int32_t kLevelState = -2;  // the item has its unit whole, in a batch of several formats: write the state of (level, row)

/// One request, as positions see it.
struct Request {
  int32_t qo_begin;  // first query token
  int32_t qo_len;
  int32_t kv_len;  // tokens, over all formats
  int32_t q_pos;   // position of the first query token; kv_len - qo_len unless the caller said otherwise
};

/// Rows that see the same columns: a request, a shared prefix, a row block of a sparse matrix, a (request, kv head) with its own table.
struct alignas(16) RowGroup {
  int32_t q_row_begin, num_q_rows;  // query tokens
  int32_t rows;                     // -1: rows are adjacent from q_row_begin and of one request; else index of the group's first RowRef
  int32_t num_cols;                 // tokens
  int64_t table_begin;              // first entry in the format's table (ragged: first token)
  int32_t q_pos, kv_pos, kv_pos_stride;  // position of row 0 and of column 0, and the step between columns
  int32_t request;                       // -1: rows of several requests, each RowRef says whose
  uint16_t format, kv_head;              // kAllHeads unless tables are per kv head
};
static_assert(sizeof(RowGroup) == 48);

/// One row of a group whose rows are of several requests or not adjacent.
struct alignas(16) RowRef {
  int32_t row, request, q_pos, col_end;  // query token; its request; its position; columns it may see, [0, col_end)
};
static_assert(sizeof(RowRef) == 16);

/// Rows x columns of one row group and one kv head. Its meaning doesn't depend on other items.
/// Packed row p of a group is query token p / group_size (of the group) and query head kv_head * group_size + p % group_size.
struct alignas(32) WorkItem {
  int32_t row_group;
  uint16_t kv_head, config;    // config: index of the KernelConfig whose tiles cut it
  int32_t row_begin, row_end;  // packed rows, at most tile_q of them
  int32_t col_begin, col_end;  // columns; those outside the rows' visible columns are skipped. May be empty: then the state is empty
  int32_t partial_slot;        // kFinal, kLevelState, or the slot its partial state goes to
  uint32_t flags;              // 0; reserved for tile classes
};
static_assert(sizeof(WorkItem) == 32);

/// Where a worker's range of a ranges plan starts and ends. A unit is (group, kv head), a tile the n-th visible kv tile of the unit.
/// Groups of other configurations inside the range are stepped over. The range ends before (end_group, end_head, end_tile).
struct alignas(32) WorkerCursor {
  int32_t group, tile;
  uint16_t kv_head, end_head;
  int32_t end_group, end_tile;
  int32_t slot;  // slot of the worker's first partial item; its second, if any, takes slot + 1
  int32_t reserved[2];
};
static_assert(sizeof(WorkerCursor) == 32);

/// A unit (row tile of a group and kv head) that was cut: its partial states are in adjacent slots, in column order.
/// The merge finalises the rows, or writes their level state in a batch of several formats.
struct alignas(32) MergeItem {
  int32_t row_group;
  uint16_t kv_head, config;
  int32_t row_begin, row_end;     // packed rows
  int32_t slot_begin, num_slots;  // num_slots >= 2
  int32_t reserved[2];
};
static_assert(sizeof(MergeItem) == 32);

/// A query token in a batch of several formats: its level states are merged in level order, then finalised, for every head.
struct ComposedRow {
  int32_t row;  // query token
  int32_t request;
  int32_t q_pos;
  uint32_t level_mask;  // formats that have a group with this row; the others' level states are not read
};
static_assert(sizeof(ComposedRow) == 16);

}  // namespace fovea
