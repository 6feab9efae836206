// The only file here that asks which compiler is reading: a host compiler (the library, the CPU's run-time compiler) or NVRTC.
// Everything in portable/ and variants/ is C++20 without the standard library.
#pragma once

#if defined(__CUDACC_RTC__)
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#define FOVEA_FN __device__ __host__ __forceinline__
#define FOVEA_CALLED_FN __device__ __host__ __noinline__
#define FOVEA_DEVICE_FN __device__ __forceinline__
#define FOVEA_NO_UNROLL _Pragma("unroll 1")
#define FOVEA_OFFSETOF(type, field) static_cast<uint32_t>(__INTADDR__(&(((type*)0)->field)))
#define FOVEA_DOUBLE_MATH(name) ::name
#define FOVEA_HARDWARE_EXP2 1  // an instruction raises 2 to a power
#else
#include <stddef.h>
#include <stdint.h>
#define FOVEA_FN inline __attribute__((always_inline))
#define FOVEA_CALLED_FN FOVEA_FN  // on a device a call: long code of one thread; never where threads of a warp part (plan/notes.md)
#define FOVEA_NO_UNROLL           // of a loop: code that is run once waits for its instructions
#define FOVEA_DEVICE_FN inline    // of programs for thread blocks, which the host runs in tests alone
#define FOVEA_OFFSETOF(type, field) static_cast<uint32_t>(__builtin_offsetof(type, field))
#define FOVEA_DOUBLE_MATH(name) __builtin_##name
#endif

#define FOVEA_RESTRICT __restrict__

namespace fovea {

template <class T>
FOVEA_FN constexpr T min_(T a, T b) {
  return b < a ? b : a;
}
template <class T>
FOVEA_FN constexpr T max_(T a, T b) {
  return a < b ? b : a;
}
/// Are both the same type?
template <class A, class B>
inline constexpr bool kSame = false;
template <class A>
inline constexpr bool kSame<A, A> = true;

/// ceil(a / b) for a >= 0, b > 0.
template <class T>
FOVEA_FN constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

}  // namespace fovea
