// The C++ compiler of the machine this runs on, for variants that are not compiled into the library: found, named, asked.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/jit/cache.h"
#include "src/jit/program.h"

namespace fovea {

struct HostCompiler {
  std::vector<std::string> command;  // "ccache", "g++"
  std::string version;               // first line of --version: "g++ (Debian 12.2.0-14) 12.2.0"
};

/// FOVEA_CXX if it is set, else the first of CXX, c++, g++ and clang++ that is g++ 12 or clang 14, or newer. Throws CompileFailed with what
/// became of each, and what to install. `what` needs it: "variant 'my_cap'".
HostCompiler find_host_compiler(std::string_view what);

/// A program as a shared object. Failures are in Built::error: the caller's file and line, the compiler's words, and a hint where the
/// mistake is known.
jit::Built compile_shared_object(const HostCompiler& compiler, const jit::Program& program, std::span<const std::string> flags,
                                 std::string_view what);

}  // namespace fovea
