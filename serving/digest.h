// Digests of outputs. A row's digest covers every byte of it and its place; digests of rows are added, in any order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "serving/mix.h"

namespace fovea::serving {

/// `place` tells rows apart: two rows that changed places give another sum.
std::uint64_t row_digest(std::span<const std::byte> row, std::uint64_t place);

}  // namespace fovea::serving
