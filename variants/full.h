// Full attention: every query sees every key.
#pragma once

#include "portable/variant.h"

namespace fovea {

struct Full : VariantBase {};

}  // namespace fovea
