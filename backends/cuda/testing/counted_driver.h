// Test support: stands between the backend and a driver (the machine's, or a fake one), counts what is called, and makes chosen calls fail.
#pragma once

#include <array>
#include <atomic>
#include <string>
#include <string_view>

#include "backends/cuda/driver.h"

namespace fovea::cuda::testing {

/// driver() is this one while it lives; one at a time. Engines that use it must not outlive it.
class CountedDriver {
 public:
  explicit CountedDriver(const Driver& base);
  ~CountedDriver();
  CountedDriver(const CountedDriver&) = delete;
  CountedDriver& operator=(const CountedDriver&) = delete;

  int count(std::string_view call) const;
  int total() const;
  std::string text() const;  // "2 cuLaunchKernelEx, 1 cuMemAlloc": calls in the order of the driver's table
  void forget();             // counts from 0

  /// The next call of that name does nothing and returns `result`; with `skip`, the one after so many.
  void fail(std::string_view call, CUresult result, int skip = 0);

  static constexpr int kNumCalls = 0
#define FOVEA_COUNT_ONE(name, symbol, parameters) +1
      FOVEA_DRIVER_FUNCTIONS(FOVEA_COUNT_ONE)
#undef FOVEA_COUNT_ONE
      ;

  /// Of the table's functions: counts call `number`; its result instead of the driver's, or kSuccess: the driver is asked.
  CUresult begin(int number);
  const DriverApi& base() const { return base_.api; }

 private:
  struct Call {
    std::atomic<int> count{0};
    std::atomic<int> calls_until_failure{-1};
    CUresult result = kSuccess;
  };

  const Driver& base_;
  Driver counted_;
  std::array<Call, kNumCalls> calls_;
  DriverInstead instead_;
};

}  // namespace fovea::cuda::testing
