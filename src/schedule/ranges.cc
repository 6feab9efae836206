// Form ranges: every worker owns a contiguous range of the ordered tiles. Linear in groups + workers: boundaries and groups are walked
// together, where a planner kernel searches for each boundary's group.
#include "src/schedule/assign.h"
#include "src/support/check.h"

namespace fovea {

namespace {

/// Finds the places of ascending offsets.
class BoundaryWalk {
 public:
  explicit BoundaryWalk(const Assignment& a) : a_(a), share_(share_of_range(a.config.cost, a.total_cost, a.num_workers)) { enter(0); }

  RangePlace place(std::int32_t w) {
    const std::uint64_t offset = share_ * static_cast<std::uint64_t>(w);
    while (group_ < num_groups() && offset >= end_) {
      enter(group_ + 1);
    }
    if (group_ == num_groups()) {
      return {group_, 0, 0};
    }
    const GroupWork& work = a_.work[group_];
    const bool cut = w > 0 && may_cut(w, a_.num_workers, a_.slots.length());
    return range_place(a_.config.cost, group_, work.heads, tiles_, offset - work.cost_before, cut);
  }

 private:
  std::int32_t num_groups() const { return static_cast<std::int32_t>(a_.groups.size()); }

  /// The first group of this configuration from `group` on.
  void enter(std::int32_t group) {
    while (group < num_groups() && a_.work[group].config != a_.config_index) {
      ++group;
    }
    group_ = group;
    if (group_ < num_groups()) {
      const GroupWork& work = a_.work[group_];
      tiles_ = a_.row_tiles[work.first_row_tile].count();
      end_ = work.cost_before + cost_of_tiles(a_.config.cost, tiles_) * static_cast<std::uint64_t>(work.heads);
    }
  }

  const Assignment& a_;
  const std::uint64_t share_;
  std::int32_t group_ = 0;
  std::int32_t tiles_ = 0;
  std::uint64_t end_ = 0;  // cost up to the group's end
};

// Perf: field by field, not as an aggregate, which compilers build on the stack and copy in wider pieces: a stall per worker, half of the
// time here.
void write_cursor(WorkerCursor& cursor, RangePlace begin, RangePlace end, std::int32_t slot) {
  cursor.group = begin.group;
  cursor.tile = begin.tile;
  cursor.kv_head = static_cast<std::uint16_t>(begin.head);
  cursor.end_head = static_cast<std::uint16_t>(end.head);
  cursor.end_group = end.group;
  cursor.end_tile = end.tile;
  cursor.slot = slot;
  cursor.reserved[0] = cursor.reserved[1] = 0;
}

/// All of a merge but its number of slots, which is known when its last piece is.
void write_merge(MergeItem& merge, const Assignment& a, RangePlace place, std::int32_t slot_begin) {
  const RowGroup& group = a.groups[static_cast<std::size_t>(place.group)];
  merge.row_group = place.group;
  merge.kv_head = group.kv_head == kAllHeads ? static_cast<std::uint16_t>(place.head) : group.kv_head;
  merge.config = static_cast<std::uint16_t>(a.config_index);
  merge.row_begin = 0;
  merge.row_end = packed_rows_of(group, a.group_size);
  merge.slot_begin = slot_begin;
  merge.reserved[0] = merge.reserved[1] = 0;
}

}  // namespace

std::int32_t assign_ranges(const Assignment& a) {
  BoundaryWalk walk(a);
  const RangePlace end_of_all{static_cast<std::int32_t>(a.groups.size()), 0, 0};
  RangePlace before = {-1, 0, 0};
  RangePlace begin = walk.place(0);
  std::int32_t slot = a.slots.begin;
  std::int32_t num_merges = 0;
  std::int32_t merge_slot = 0;  // first slot of the last merge
  for (std::int32_t w = 0; w < a.num_workers; ++w) {
    const RangePlace end = w + 1 < a.num_workers ? later(begin, walk.place(w + 1)) : end_of_all;
    write_cursor(a.out.cursors[w], begin, end, slot);
    if (begins_merge(before, begin)) {
      FOVEA_ASSERT(num_merges < a.max_merges, "merge {} of a ranges plan with room for {}", num_merges, a.max_merges);
      merge_slot = slot - 1;
      write_merge(a.out.merges[num_merges++], a, begin, merge_slot);
    }
    if (begin.tile > 0 && is_before(begin, end)) {
      a.out.merges[num_merges - 1].num_slots = slot + 1 - merge_slot;
    }
    slot += partial_items(begin, end);
    before = begin;
    begin = end;
  }
  FOVEA_ASSERT(slot <= a.slots.end, "a ranges plan uses slots {} .. {}, its part ends at {}", a.slots.begin, slot, a.slots.end);
  *a.out.num_items = 0;
  *a.out.num_merges = num_merges;
  return slot - a.slots.begin;
}

}  // namespace fovea
