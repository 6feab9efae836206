// KernelParams: the one parameter block of an attention launch. The host fills it; a kernel reads it and nothing else.
// All strides are in elements, 64-bit. Pointers are on the kernel's device.
#pragma once

#include "fovea/dtype.h"
#include "portable/compat.h"
#include "portable/config.h"
#include "portable/kv_range.h"
#include "portable/tile_map.h"
#include "portable/work.h"

namespace fovea {

struct QView {
  const void* data;  // [tokens, num_qo_heads, head_dim_qk]
  int64_t token_stride, head_stride;
  DType dtype;
};

/// A dequantisation scale: data[page * page_stride + slot * token_stride + head * head_stride], or `number` where data is null.
struct ScaleView {
  const float* data;
  int64_t page_stride, token_stride, head_stride;
  float number;
  int32_t per_token;  // differs from column to column
};

/// One tensor of a cache: element (page, slot, head, 0) is at data + page * page_stride + slot * token_stride + head * head_stride.
struct CacheView {
  const void* data;
  int64_t page_stride, token_stride, head_stride;
  ScaleView scale;
  DType dtype;
};

/// One format's storage. Column c of a group is in slot c % page_size of page table[table_begin + c / page_size]; without a table its page
/// is table_begin + c (page_size 1). Only entries of columns that a row may see are read.
struct KvView {
  CacheView k, v;
  const int32_t* table;  // null: ragged
  int32_t page_size;
  int32_t num_pages;  // that K and V have; ragged: tokens
  int32_t by_index;   // a column's position is kv_pos + (page * page_size + slot) * stride, and is visible only below kv_len
};

struct OutView {
  void* o;  // [tokens, num_qo_heads, head_dim_vo]
  int64_t token_stride, head_stride;
  float* lse;  // [tokens, num_qo_heads]; may be null
  int64_t lse_token_stride, lse_head_stride;
  DType dtype;
};

/// Partial states in float: o (divided by its sum) and lse in base 2 (-inf: empty); with use_softmax = false o is a sum and lse unused.
/// Slot s holds packed row r of its item at row s * rows_per_slot + (r - row_begin). Level states of format f, query token t, query head h
/// are at row level_begin + (f * level_rows + t) * num_qo_heads + h.
struct PartialView {
  float* o;     // [rows, head_dim_vo]
  float* lse2;  // [rows]
  int32_t rows_per_slot;
  int32_t level_rows;  // query tokens a level has room for
  int64_t level_begin;
};

/// Work of one kernel configuration for one mask group.
struct ScheduleView {
  const WorkerCursor* cursors;  // [num_workers], form ranges
  const WorkItem* items;        // [*num_items], form list
  const int32_t* num_items;
  const MergeItem* merges;  // [*num_merges]
  const int32_t* num_merges;
};

/// What a plan holds, as kernels read it. Counts are behind pointers: a planner kernel writes them.
struct PlanArrays {
  const Request* requests;
  const RowGroup* groups;
  const RowRef* row_refs;
  const ComposedRow* composed;  // [*num_composed]; batches of several formats
  const int32_t* num_composed;
  const int32_t* num_groups;
  ScheduleView schedules[kMaxKernelConfigs];
};

struct KernelParams {
  QView q;
  OutView out;
  PartialView partial;
  PlanArrays plan;
  KvView kv[kMaxFormats];
  KernelConfig configs[kMaxKernelConfigs];
  KvRange range;       // of the mask: what kernels skip by
  TileMap tile_map;    // of the mask, on the host: the cpu backend skips by it, others may leave it unread
  KvRange plan_range;  // what the plan was made with: the same, or everything for the mask group `any`
  int32_t num_configs, num_formats, num_workers;
  int32_t num_qo_heads, num_kv_heads, group_size;
  int32_t head_dim_qk, head_dim_vo;
  float sm_scale;        // q_scale included, k scale not
  float q_scale;         // 1, but for variants that transform queries: they see q * q_scale, and sm_scale is without it
  int32_t write_states;  // Output::states
  int32_t lse_base2, lse_with_extra;
  int32_t kv_early;  // a GPU kernel may read K, V, their page ids and scales while the kernels in front of it end
  const void* mask;  // V::Mask and V::Params, filled from named values; a GPU kernel gets them as values behind this block
  const void* variant_params;
};

}  // namespace fovea
