// Names of enumerators and formats, for messages.
#pragma once

#include <string>

#include "fovea/engine.h"
#include "fovea/plan.h"
#include "fovea/problem.h"

namespace fovea {

const char* name_of(KvQuant quant);
const char* name_of(Policy policy);
std::string to_string(const KvFormat& format);  // "paged(16)", "ragged", "block_sparse(64, 16)", with what else is set
std::string describe(const CompileRecord& record);

}  // namespace fovea
