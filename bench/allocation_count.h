// Counts heap allocations of the whole process between arm and disarm. Works in programs that link fovea_allocation_count (it replaces
// malloc).
#pragma once

#include <cstdint>

namespace fovea::bench {

/// Counts while it lives; one at a time.
class AllocationCount {
 public:
  AllocationCount();
  ~AllocationCount();
  std::int64_t count() const;

  /// False where malloc can't be replaced (sanitizers, other C libraries): counts are then of operator new alone.
  static bool sees_malloc();
};

}  // namespace fovea::bench
