// Which bytes of a plan's memory its batch has filled: what a device that can't reach the host's memory has to be sent.
#include "src/schedule/schedule.h"

namespace fovea {

namespace {

/// Copying a gap of so many bytes costs the host less than one copy more.
constexpr std::size_t kSmallGap = 32 << 10;

/// Collects arrays, given in the order of lay_out_plan().
class PartList {
 public:
  PartList(const void* plan, std::vector<PlanBytes>& parts) : plan_(static_cast<const std::byte*>(plan)), parts_(parts) { parts_.clear(); }

  template <class T>
  void add(const T* array, std::int32_t count) {
    if (count == 0) {
      return;
    }
    const std::size_t begin = static_cast<std::size_t>(reinterpret_cast<const std::byte*>(array) - plan_);
    const std::size_t end = begin + static_cast<std::size_t>(count) * sizeof(T);
    if (!parts_.empty() && begin < parts_.back().end + kSmallGap) {
      parts_.back().end = end;
    } else {
      parts_.push_back({begin, end});
    }
  }

 private:
  const std::byte* plan_;
  std::vector<PlanBytes>& parts_;
};

std::int32_t num_row_refs(const BatchView& batch) {
  std::int32_t count = 0;
  for (std::int32_t i = 0; i < batch.num_formats; ++i) {
    const FormatView& f = batch.formats[i];
    if (f.first_row_ref >= 0) {
      count = max_(count, f.first_row_ref + (f.row_indptr != nullptr ? f.row_indptr[f.num_row_sets] : batch.qo_indptr[batch.num_requests]));
    }
  }
  return count;
}

}  // namespace

std::size_t max_parts(const PlanCapacity& capacity) {
  return 7 + static_cast<std::size_t>(capacity.max_mask_groups) * (1 + 5 * static_cast<std::size_t>(capacity.num_configs));
}

void used_bytes(const PlanCapacity& capacity, const PlanArraysMut& arrays, const BatchView& batch, std::int32_t num_masks,
                std::vector<PlanBytes>& parts) {
  PartList list(arrays.num_groups, parts);
  list.add(arrays.num_groups, 1);
  list.add(arrays.num_composed, 1);
  list.add(arrays.num_requests, 1);
  list.add(arrays.requests, batch.num_requests);
  list.add(arrays.groups, *arrays.num_groups);
  for (std::int32_t m = 0; m < num_masks; ++m) {
    const MaskGroupArrays& group = arrays.mask_groups[static_cast<std::size_t>(m)];
    for (std::int32_t c = 0; c < capacity.num_configs; ++c) {
      const ScheduleArrays& s = group.schedules[c];
      list.add(s.num_items, 1);
      list.add(s.num_merges, 1);
      // A graph launches kernels that this plan has no work for: they read empty cursors.
      list.add(s.cursors, capacity.max_items[c] == 0 ? capacity.num_workers : 0);
      list.add(s.merges, *s.num_merges);
    }
    for (std::int32_t c = 0; c < capacity.num_configs; ++c) {
      list.add(group.schedules[c].items, *group.schedules[c].num_items);
    }
  }
  list.add(arrays.composed, *arrays.num_composed);
  list.add(arrays.row_refs, num_row_refs(batch));
}

}  // namespace fovea
