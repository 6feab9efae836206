// Test support: a plan's memory, poisoned, so that two planners can be compared byte by byte.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "src/schedule/schedule.h"

namespace fovea::test {

struct PlannedMemory {
  PlannedMemory(const Problem& problem, const Choice& choice)
      : capacity(plan_capacity(problem, choice)), bytes(static_cast<std::size_t>(capacity.plan_bytes) + 64, 0xa5) {
    base = bytes.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes.data()) % 64) % 64;
    arrays = lay_out_plan(capacity, base);
  }
  PlannedMemory(const PlannedMemory&) = delete;

  PlanCapacity capacity;
  std::vector<std::uint8_t> bytes;
  std::uint8_t* base;  // of the plan
  PlanArraysMut arrays;
};

/// Bounds that let a planner check what the batch says.
inline void defer_checks(const Problem& problem, BatchView& b) {
  b.deferred = 1;
  b.max_query_tokens = problem.limits.max_query_tokens;
  b.max_query_tokens_per_request = problem.limits.max_query_tokens_per_request;
  b.max_kv_tokens_per_request = 1 << 28;  // random cases say nothing of sums
  for (std::int32_t i = 0; i < b.num_formats; ++i) {
    FormatView& f = b.formats[i];
    f.deferred = 1;
    f.num_table_rows = 1 << 20;
    f.max_tokens = problem.limits.max_kv_tokens_per_request;
    f.num_entries = f.page_indptr != nullptr ? f.page_indptr[f.num_groups()] : 1 << 20;
    f.num_row_entries = f.row_indptr != nullptr ? f.row_indptr[f.num_row_sets] : 0;
  }
}

/// The first byte of what kernels read in which two plans differ, and where the arrays are. Both come from the same poison: what neither
/// writes is the same. Padding of row groups is left out.
inline std::string difference(const PlannedMemory& host, const PlannedMemory& device) {
  for (const PlannedMemory* plan : {&host, &device}) {
    for (std::int32_t g = 0; g < *plan->arrays.num_groups && g < plan->capacity.max_row_groups; ++g) {
      constexpr std::size_t kEnd = offsetof(RowGroup, kv_head) + sizeof(RowGroup::kv_head);
      std::memset(reinterpret_cast<char*>(&plan->arrays.groups[g]) + kEnd, 0, sizeof(RowGroup) - kEnd);
    }
  }
  const std::uint8_t* a = host.base;
  const std::uint8_t* b = device.base;
  const auto end = reinterpret_cast<const std::uint8_t*>(host.arrays.work) - a;
  if (std::memcmp(a, b, static_cast<std::size_t>(end)) == 0) {
    return "";
  }
  std::ptrdiff_t i = 0;
  while (a[i] == b[i]) {
    ++i;
  }
  const auto at = [&](const void* array) { return std::to_string(static_cast<const std::uint8_t*>(array) - a); };
  const auto& mask = host.arrays.mask_groups[0];
  return "byte " + std::to_string(i) + "; groups at " + at(host.arrays.groups) + ", row refs " + at(host.arrays.row_refs) + ", composed " +
         at(host.arrays.composed) + ", counts " + at(host.arrays.num_groups) + ", slots " + at(mask.num_slots) + ", cursors " +
         at(mask.schedules[0].cursors) + ", items " + at(mask.schedules[0].items) + ", merges " + at(mask.schedules[0].merges);
}

}  // namespace fovea::test
