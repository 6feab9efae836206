// Test support: an NVRTC that compiles anything to nothing, in no time. Built as a library of NVRTC's name; FOVEA_NVRTC_PATH leads to it.
#include <cstddef>
#include <cstring>

namespace {
constexpr char kCubin[] = "a cubin for a fake driver";
constexpr char kLog[] = "ptxas info    : Used 32 registers";
}  // namespace

extern "C" {

const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR_INTERNAL_ERROR"; }
int nvrtcVersion(int* major, int* minor) {
  *major = 13;
  *minor = 0;
  return 0;
}
int nvrtcCreateProgram(void** program, const char*, const char*, int, const char* const*, const char* const*) {
  static int none;
  *program = &none;
  return 0;
}
int nvrtcDestroyProgram(void** program) {
  *program = nullptr;
  return 0;
}
int nvrtcCompileProgram(void*, int, const char* const*) { return 0; }
int nvrtcGetProgramLogSize(void*, std::size_t* bytes) {
  *bytes = sizeof kLog;
  return 0;
}
int nvrtcGetProgramLog(void*, char* log) {
  std::memcpy(log, kLog, sizeof kLog);
  return 0;
}
int nvrtcGetCUBINSize(void*, std::size_t* bytes) {
  *bytes = sizeof kCubin;
  return 0;
}
int nvrtcGetCUBIN(void*, char* cubin) {
  std::memcpy(cubin, kCubin, sizeof kCubin);
  return 0;
}

}  // extern "C"
