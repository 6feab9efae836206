// libFuzzer target: any bytes, as calls of the public API. The cpu and the reference backend must agree, or refuse with the same code and
// write nothing.
//
//   make fuzz                                   runs it
//   build/asan/tests/fuzz/fovea_fuzz FILE       replays one input; prints the problem when it fails
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "tests/fuzz/targets.h"

namespace fovea::fuzz {

const Engines& engines() {
  static const Engines both;
  return both;
}

void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

}  // namespace fovea::fuzz

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* bytes, std::size_t count) {
  fovea::fuzz::Bytes input({bytes, count});
  if (input.below(8) == 7) {
    fovea::fuzz::check_append(input);
  } else {
    fovea::fuzz::check_attention(input);
  }
  return 0;
}
