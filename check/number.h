// Element types by their bit layout, in double. Written apart from portable/convert.h, so that one can prove the other.
#pragma once

#include <cstdint>

#include "fovea/dtype.h"

namespace fovea::check {

double decode(DType dtype, const void* memory, std::int64_t index);
void encode(DType dtype, void* memory, std::int64_t index, double value);  // nearest, ties to even; saturates in 8-bit types

double round_to(DType dtype, double value);
double ulp_at(DType dtype, double value);  // distance to the next number away from zero
double largest(DType dtype);

}  // namespace fovea::check
