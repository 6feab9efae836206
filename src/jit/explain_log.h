// A compiler's log as a person should read it: the first errors with the caller's file and line, and a sentence where the mistake is known.
// Understands g++, clang and NVRTC.
#pragma once

#include <string>
#include <string_view>

#include "src/jit/program.h"

namespace fovea::jit {

/// Lines of the form "    my_cap.h(9): error: ...". `folder` is cut from file names.
std::string explain_log(const Program& program, std::string_view log, std::string_view folder);

}  // namespace fovea::jit
