// Running a program: no shell, so that no name in its arguments can mean anything else.
#pragma once

#include <span>
#include <string>

namespace fovea {

struct ProcessResult {
  bool started = false;    // false: no such program, or it may not be run; `output` says why
  int status = -1;         // exit status; 128 + signal for one that was killed
  std::string output;      // stdout and stderr together
  double cpu_seconds = 0;  // user and system, its children included
};

/// arguments[0] is looked up in PATH. The environment is ours, with messages in English. Waits until the program ends.
ProcessResult run_process(std::span<const std::string> arguments);

}  // namespace fovea
