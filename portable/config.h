// KernelConfig: every compile-time or prepare-time choice about a kernel, in one printable struct. Made by selection, read by planner and
// kernel.
#pragma once

#include "portable/compat.h"

namespace fovea {

/// What work costs on a kernel, in 1/16 of a kv tile. Integers, so that host and device planners agree to the bit.
struct CostTable {
  uint32_t fixed = 16;        // starting an item: load q, write o
  uint32_t per_tile = 16;     // one tile_q x tile_kv step
  uint32_t per_partial = 16;  // writing one partial state and merging it
  uint32_t least_share = 1;   // of a worker of a ranges plan: of a batch of less work some workers get none

  friend constexpr bool operator==(const CostTable& a, const CostTable& b) {
    return a.fixed == b.fixed && a.per_tile == b.per_tile && a.per_partial == b.per_partial && a.least_share == b.least_share;
  }
};

/// Form of a plan. A kernel configuration has one.
enum class PlanForm : uint8_t {
  ranges,  // few rows: one row tile per (group, kv head); workers own contiguous ranges of the ordered kv tiles, a cursor each
  list,    // many rows: items, longest first
};

struct KernelConfig {
  int32_t tile_q = 16;   // packed rows
  int32_t tile_kv = 64;  // columns
  PlanForm form = PlanForm::list;
  CostTable cost;

  friend constexpr bool operator==(const KernelConfig& a, const KernelConfig& b) {
    return a.tile_q == b.tile_q && a.tile_kv == b.tile_kv && a.form == b.form && a.cost == b.cost;
  }
};

inline constexpr int kMaxKernelConfigs = 3;
inline constexpr int kMaxFormats = 8;
inline constexpr int32_t kMaxHeadDim = 1024;

/// The integer rule that hands a group to a configuration, the same on host and device: the first whose tile holds all its packed rows,
/// else the last. `configs` are sorted by tile_q; the last has form `list`, where a group may have any number of row tiles.
FOVEA_FN int32_t config_of(const KernelConfig* configs, int32_t num_configs, int32_t packed_rows) {
  int32_t c = 0;
  while (c + 1 < num_configs && packed_rows > configs[c].tile_q) {
    ++c;
  }
  return c;
}

}  // namespace fovea
