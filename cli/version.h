// The version as text.
#pragma once

#include "fovea/version.h"

namespace fovea::cli {

#define FOVEA_CLI_TEXT_OF(x) #x
#define FOVEA_CLI_TEXT(x) FOVEA_CLI_TEXT_OF(x)
inline constexpr const char* kVersion =
    FOVEA_CLI_TEXT(FOVEA_VERSION_MAJOR) "." FOVEA_CLI_TEXT(FOVEA_VERSION_MINOR) "." FOVEA_CLI_TEXT(FOVEA_VERSION_PATCH);
#undef FOVEA_CLI_TEXT
#undef FOVEA_CLI_TEXT_OF

}  // namespace fovea::cli
