// Errors with values: FOVEA_CHECK for what a caller may get wrong, FOVEA_ASSERT for what only a bug can cause.
#pragma once

#include <fmt/format.h>

#include "fovea/error.h"

namespace fovea {

/// FOVEA_CHECK(len <= max, "plan: kv_len[{}] = {} is over max_kv_tokens_per_request = {}", i, len, max)
/// throws InvalidArgument with that text when the condition is false.
#define FOVEA_CHECK(condition, ...)                               \
  do {                                                            \
    if (!(condition)) [[unlikely]] {                              \
      throw ::fovea::InvalidArgument(::fmt::format(__VA_ARGS__)); \
    }                                                             \
  } while (false)

#define FOVEA_ASSERT(condition, ...)                                                                     \
  do {                                                                                                   \
    if (!(condition)) [[unlikely]] {                                                                     \
      throw ::fovea::InternalError("internal: " + ::fmt::format(__VA_ARGS__) + " (please report this)"); \
    }                                                                                                    \
  } while (false)

}  // namespace fovea
