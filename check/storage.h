// Pages of a cache in some layout, with the values of the tokens in use; everything else in its memory is NaN.
#pragma once

#include "check/case.h"
#include "check/random.h"

namespace fovea::check {

/// Row-major with gaps: every stride but the last may be larger than it must be.
TensorView padded_tensor(Memory& memory, Random& random, DType dtype, const std::vector<std::int64_t>& shape);

/// Writes pool `pool` (whose `used` is final) into a cache of a random layout that suits `format`, and fills in its dense values.
KvCache store_pool(Case& c, Random& random, int pool, const KvFormat& format);

}  // namespace fovea::check
