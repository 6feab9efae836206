// What the log of a GPU compiler says of speed: registers, spills, and the notes by which ptxas says that it serialised wgmma.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fovea::jit {

struct CompileReport {
  int registers = 0;                  // of the kernel with the most
  int spilled_bytes = 0;              // stores and loads
  std::vector<std::string> slow;      // lines with C7511 .. C7517: wgmma runs one by one, or waits more than it should
  std::vector<std::string> warnings;  // the front end's, about our text or the caller's

  /// Nothing in it costs speed.
  bool clean() const { return spilled_bytes == 0 && slow.empty(); }
  /// "spills 24 bytes of registers; (C7511) ..."; empty when clean.
  std::string complaints() const;
};

CompileReport read_compile_log(std::string_view log);

}  // namespace fovea::jit
