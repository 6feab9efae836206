// Lookups a variant may make: a table of numbers and packed mask bits. Out-of-range indices clamp, so that a lookup is always inside its
// memory.
#pragma once

#include "portable/compat.h"

namespace fovea {

/// table[i], i clamped to [0, size). An empty table reads as 0.
template <class T>
struct Table {
  const T* data = nullptr;
  int32_t size = 0;
  FOVEA_FN T operator[](int32_t i) const { return size > 0 ? data[max_(0, min_(i, size - 1))] : T(0); }
};

/// Packed bits, least significant first; bit i of byte b is mask entry 8 * b + i. Entries outside read as 0.
struct BitMask {
  const uint8_t* bits = nullptr;
  int64_t num_bytes = 0;
  FOVEA_FN bool test(int64_t index) const {
    const int64_t byte = index >> 3;
    return byte >= 0 && byte < num_bytes && ((bits[byte] >> (index & 7)) & 1) != 0;
  }
};

}  // namespace fovea
