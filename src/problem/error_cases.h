// Test support: wrong calls and the whole texts that refuse them. Every FOVEA_CHECK in this folder must be matched by one of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/problem/problem.h"

namespace fovea::test {

using Ints = std::vector<std::int32_t>;

struct ErrorCase {
  std::string text;
  std::function<void()> call;
};

/// A right call of type `Call`, changed by `change` into a wrong one.
template <class Call>
ErrorCase wrong(std::string text, void (*change)(Call&)) {
  return {std::move(text), [change] {
            Call call;
            change(call);
            call.check();
          }};
}

std::vector<ErrorCase> prepare_error_cases();
std::vector<ErrorCase> batch_error_cases();
std::vector<ErrorCase> composed_error_cases();
std::vector<ErrorCase> device_batch_error_cases();
std::vector<ErrorCase> run_error_cases();
std::vector<ErrorCase> cache_error_cases();
std::vector<ErrorCase> values_error_cases();
std::vector<ErrorCase> tiles_error_cases();
std::vector<ErrorCase> append_error_cases();
std::vector<ErrorCase> merge_error_cases();

/// Changes one entry of a view's shape or strides.
inline void set_dim(TensorView& tensor, int axis, std::int64_t extent) { tensor.shape[static_cast<std::size_t>(axis)] = extent; }
inline void set_stride(TensorView& tensor, int axis, std::int64_t stride) { tensor.strides[static_cast<std::size_t>(axis)] = stride; }
inline void set_cuda(TensorView& tensor) { tensor.device = {DeviceType::cuda, 1}; }

}  // namespace fovea::test
