// What the library says without being asked: slow and surprising events, once each, a line on stderr. FOVEA_LOG=0 silences it.
#pragma once

#include <string_view>

namespace fovea {

/// "fovea: text".
void log_line(std::string_view text);

/// The first time this text is logged in this process.
void log_once(std::string_view text);

}  // namespace fovea
