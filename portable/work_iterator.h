// The items of one worker, the same for both plan forms:  for (RangeWork work(params, config, worker); work.next(item);) ...
// Kernels walk plans through this file; planners count work with the same functions, so that they can't disagree.
#pragma once

#include "portable/config.h"
#include "portable/kv_range.h"
#include "portable/params.h"
#include "portable/work.h"

namespace fovea {

inline constexpr int32_t kAnyPosition = 1 << 29;  // bound of all positions and lengths

FOVEA_FN int32_t packed_rows_of(const RowGroup& group, int32_t group_size) { return group.num_q_rows * group_size; }

/// kv heads a group has units for: all, or the one its table belongs to.
FOVEA_FN int32_t num_heads_of(const RowGroup& group, int32_t num_kv_heads) { return group.kv_head == kAllHeads ? num_kv_heads : 1; }

/// Positions of packed rows [row_begin, row_end). Rows with RowRefs can stand anywhere: planners don't look, kernels do.
FOVEA_FN QueryPositions query_positions(const RowGroup& group, int32_t row_begin, int32_t row_end, int32_t group_size) {
  if (group.rows >= 0) {
    return {-kAnyPosition, kAnyPosition};
  }
  return {group.q_pos + row_begin / group_size, group.q_pos + (row_end - 1) / group_size};
}

/// What planners count and items are made of: the kv tiles of packed rows [row_begin, row_end) of a group.
FOVEA_FN VisibleTiles unit_tiles(const RowGroup& group, KvRange range, int32_t row_begin, int32_t row_end, int32_t group_size,
                                 int32_t tile_kv, bool by_index) {
  const QueryPositions q = query_positions(group, row_begin, row_end, group_size);
  return visible_tiles(visible_columns(group, range, q, by_index), tile_kv);
}

/// Columns of the visible tiles first .. last - 1 (0 <= first <= last <= count).
FOVEA_FN Span columns_of_tiles(const VisibleTiles& tiles, int32_t first, int32_t last, int32_t tile_kv, int32_t num_cols) {
  if (last <= first) {
    return {};
  }
  return {tiles.tile(first) * tile_kv, min_((tiles.tile(last - 1) + 1) * tile_kv, num_cols)};
}

/// How what a plan holds is read: a kernel that reads it early needs another way.
struct ReadPlainly {
  template <class T>
  FOVEA_FN T operator()(const T* from) const {
    return *from;
  }
};

/// A worker's items in a ranges plan of configuration `config`.
template <class Read>
struct RangeItems {
  const KernelParams& params;
  WorkerCursor cursor;
  int32_t config;
  RowGroup group;  // of the item that next() gave

  FOVEA_FN RangeItems(const KernelParams& p, int32_t config_index, int32_t worker)
      : params(p), cursor(Read()(p.plan.schedules[config_index].cursors + worker)), config(config_index) {}

  FOVEA_FN bool next(WorkItem& item) {
    const KernelConfig& c = params.configs[config];
    while (before_end()) {
      group = Read()(params.plan.groups + cursor.group);
      const int32_t rows = packed_rows_of(group, params.group_size);
      if (rows == 0 || config_of(params.configs, params.num_configs, rows) != config) {
        next_group();
        continue;
      }
      const VisibleTiles tiles =
          unit_tiles(group, params.plan_range, 0, rows, params.group_size, c.tile_kv, params.kv[group.format].by_index);
      const int32_t count = tiles.count();
      const bool ends_here = cursor.group == cursor.end_group && cursor.kv_head == cursor.end_head;
      const int32_t last = ends_here ? cursor.end_tile : count;
      const Span columns = columns_of_tiles(tiles, cursor.tile, last, c.tile_kv, group.num_cols);
      const bool whole = cursor.tile == 0 && last == count;
      item = WorkItem{.row_group = cursor.group,
                      .kv_head = group.kv_head == kAllHeads ? cursor.kv_head : group.kv_head,
                      .config = static_cast<uint16_t>(config),
                      .row_begin = 0,
                      .row_end = rows,
                      .col_begin = columns.begin,
                      .col_end = columns.end,
                      .partial_slot = whole ? (params.num_formats > 1 ? kLevelState : kFinal) : cursor.slot++,
                      .flags = 0};
      if (ends_here) {
        cursor.tile = cursor.end_tile;  // before_end() is false from here on
      } else {
        cursor.tile = 0;
        ++cursor.kv_head;
        if (cursor.kv_head >= num_heads_of(group, params.num_kv_heads)) {
          next_group();
        }
      }
      return true;
    }
    return false;
  }

 private:
  FOVEA_FN bool before_end() const {
    if (cursor.group != cursor.end_group) {
      return cursor.group < cursor.end_group;
    }
    if (cursor.kv_head != cursor.end_head) {
      return cursor.kv_head < cursor.end_head;
    }
    return cursor.tile < cursor.end_tile;
  }
  FOVEA_FN void next_group() {
    ++cursor.group;
    cursor.kv_head = 0;
    cursor.tile = 0;
  }
};
using RangeWork = RangeItems<ReadPlainly>;

}  // namespace fovea
