#include "backends/cuda/testing/counted_driver.h"

#include <algorithm>

#include "src/support/check.h"

namespace fovea::cuda::testing {
namespace {

CountedDriver* active = nullptr;  // a driver's functions have no room for a pointer to it

constexpr std::string_view kNames[] = {
#define FOVEA_NAME(name, symbol, parameters) #name,
    FOVEA_DRIVER_FUNCTIONS(FOVEA_NAME)
#undef FOVEA_NAME
};

enum Number {
#define FOVEA_NUMBER(name, symbol, parameters) k_##name,
  FOVEA_DRIVER_FUNCTIONS(FOVEA_NUMBER)
#undef FOVEA_NUMBER
};

int number_of(std::string_view call) {
  const auto* name = std::find(std::begin(kNames), std::end(kNames), call);
  FOVEA_ASSERT(name != std::end(kNames), "the backend does not call {}", call);
  return static_cast<int>(name - std::begin(kNames));
}

/// A function that counts, for every function of the table.
template <int Number, auto Member>
struct Counting;
template <int Number, class... Args, CUresult (*DriverApi::*Member)(Args...)>
struct Counting<Number, Member> {
  static CUresult call(Args... args) {
    const CUresult result = active->begin(Number);
    return result != kSuccess ? result : (active->base().*Member)(args...);
  }
};

}  // namespace

CountedDriver::CountedDriver(const Driver& base)
    : base_(base), counted_{.api = {}, .library = base.library, .version = base.version}, instead_(counted_) {
#define FOVEA_COUNTING(name, symbol, parameters) counted_.api.name = Counting<k_##name, &DriverApi::name>::call;
  FOVEA_DRIVER_FUNCTIONS(FOVEA_COUNTING)
#undef FOVEA_COUNTING
  active = this;
}

CountedDriver::~CountedDriver() { active = nullptr; }

int CountedDriver::count(std::string_view call) const { return calls_[static_cast<std::size_t>(number_of(call))].count; }

int CountedDriver::total() const {
  int total = 0;
  for (const Call& call : calls_) {
    total += call.count;
  }
  return total;
}

std::string CountedDriver::text() const {
  std::string text;
  for (std::size_t i = 0; i < calls_.size(); ++i) {
    if (calls_[i].count > 0) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", calls_[i].count.load(), kNames[i]);
    }
  }
  return text;
}

void CountedDriver::forget() {
  for (Call& call : calls_) {
    call.count = 0;
  }
}

void CountedDriver::fail(std::string_view call, CUresult result, int skip) {
  Call& c = calls_[static_cast<std::size_t>(number_of(call))];
  c.result = result;
  c.calls_until_failure = skip;
}

CUresult CountedDriver::begin(int number) {
  Call& call = calls_[static_cast<std::size_t>(number)];
  ++call.count;
  if (call.calls_until_failure < 0) {
    return kSuccess;
  }
  return call.calls_until_failure-- == 0 ? call.result : kSuccess;
}

}  // namespace fovea::cuda::testing
