// Structs of the public API from a call's arguments, in the order in which python/fovea/*.py writes them.
#pragma once

#include <vector>

#include "python/binding/arguments.h"

namespace fovea::python {

KvQuant quant_from(Arguments& from);
AttentionSpec spec_from(Arguments& from);
Limits limits_from(Arguments& from);
PrepareOptions prepare_options_from(Arguments& from);
KvTables tables_from(Arguments& from);
KvCache cache_from(Arguments& from);
TileClasses tiles_from(Arguments& from);

/// name, value, name, value, ...: `count` pairs, or all that is left when it is negative. `values` keeps its memory.
void values_from(Arguments& from, std::int64_t count, std::vector<Value>& values);

}  // namespace fovea::python
