// Matrix products of a warpgroup (wgmma, sm_90a): d (64 x N floats in registers) += a b, with a in shared memory or registers and b in
// shared memory.
//   Order: wgmma_fence() before the first product of a group (registers), fence_shared_for_async() and a barrier behind ordinary writes to
//   shared memory; products of one shape into the same d need nothing between them.
//   HW: d may be read, and a in registers or shared memory written, only behind wgmma_wait(). Registers of a may never be rewritten while a
//   product that reads them is under way, above all not over a loop's back edge: ptxas 13.0 then overwrites them too early and says
//   nothing.
// Warp w of the warpgroup, lane l = 4 g + j, holds of d: d[4 n + i] is row 16 w + g + 8 (i / 2), column 8 n + 2 j + i % 2. Of a (16 bits):
// a[i] is row 16 w + g + 8 (i % 2), columns 8 (i / 2) + 2 j + {0, 1}; of 8 bits: columns 16 (i / 2) + 4 j + {0, 1, 2, 3}.
#pragma once

#include "backends/cuda/device/ptx/wgmma_operands.cuh"
#include "fovea/dtype.h"
#include "portable/compat.h"

namespace fovea::ptx {

/// Which 16-byte piece of a row lies where: piece p of row r at p ^ (r & 7) (bytes_128: rows of 128 bytes), and so on. Tiles begin at
/// multiples of 1024 bytes.
enum class Swizzle : uint32_t { none = 0, bytes_128 = 1, bytes_64 = 2, bytes_32 = 3 };

/// An operand in shared memory. K-major (rows of a, or columns of b, are runs of k): stride_bytes from 8 rows to the next 8. MN-major: from
/// 8 k to the next 8, and leading_bytes from one swizzle width of rows to the next. Without a swizzle, in cores of 8 x 16 bytes:
/// leading_bytes between cores along k (K-major) or, MN-major, along k, with stride_bytes along the rows.
__device__ __forceinline__ uint64_t wgmma_operand(uint32_t shared, uint32_t leading_bytes, uint32_t stride_bytes, Swizzle swizzle) {
  return static_cast<uint64_t>((shared & 0x3ffffu) >> 4) | static_cast<uint64_t>(leading_bytes >> 4) << 16 |
         static_cast<uint64_t>(stride_bytes >> 4) << 32 | static_cast<uint64_t>(swizzle) << 62;
}

/// The operand `bytes` further on (a multiple of 16).
__device__ __forceinline__ uint64_t advanced(uint64_t operand, uint32_t bytes) { return operand + (bytes >> 4); }

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Until at most kPending of the latest groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/// Keeps the compiler from moving uses of registers over this point: d before wgmma_fence() and behind wgmma_wait(), a behind the wait that
/// covers its product.
template <int kCount>
__device__ __forceinline__ void keep(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+f"(d[i])::"memory");
  }
}
template <int kCount>
__device__ __forceinline__ void keep(uint32_t (&a)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    asm volatile("" : "+r"(a[i])::"memory");
  }
}

template <int kColumns>
struct WgmmaShape;

#define FOVEA_WGMMA_SHARED(k, n, step, types, transposes, i0, i1, i2, ...)                                                            \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i2                                                                               \
               ", 0;\n"                                                                                                               \
               "wgmma.mma_async.sync.aligned.m64n" #n step ".f32." types " {" FOVEA_WGMMA_REGISTERS_##k "}, %" #i0 ", %" #i1          \
                                                                                                        ", p, 1, 1" transposes ";\n}" \
               : FOVEA_WGMMA_FLOATS_##k                                                                                               \
               : "l"(a), "l"(b), "r"(accumulate)__VA_ARGS__)
#define FOVEA_WGMMA_REGISTER(k, n, step, types, transposes, i0, i1, i2, i3, i4, i5, ...)                \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i5                                                 \
               ", 0;\n"                                                                                 \
               "wgmma.mma_async.sync.aligned.m64n" #n step ".f32." types " {" FOVEA_WGMMA_REGISTERS_##k \
               "}, {%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4 ", p, 1, 1" transposes ";\n}"       \
               : FOVEA_WGMMA_FLOATS_##k                                                                 \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate)__VA_ARGS__)

#define FOVEA_WGMMA_SHAPE(k, n, i0, i1, i2, i3, i4, i5, i6)                                                                      \
  template <>                                                                                                                    \
  struct WgmmaShape<n> {                                                                                                         \
    template <DType T, int kTransposeA, int kTransposeB>                                                                         \
    static __device__ __forceinline__ void multiply(float (&d)[n / 2], uint64_t a, uint64_t b, int32_t accumulate) {             \
      if constexpr (T == DType::bf16) {                                                                                          \
        FOVEA_WGMMA_SHARED(k, n, "k16", "bf16.bf16", ", %" #i3 ", %" #i4, i0, i1, i2, , "n"(kTransposeA), "n"(kTransposeB));     \
      } else if constexpr (T == DType::f16) {                                                                                    \
        FOVEA_WGMMA_SHARED(k, n, "k16", "f16.f16", ", %" #i3 ", %" #i4, i0, i1, i2, , "n"(kTransposeA), "n"(kTransposeB));       \
      } else if constexpr (T == DType::e4m3) {                                                                                   \
        FOVEA_WGMMA_SHARED(k, n, "k32", "e4m3.e4m3", "", i0, i1, i2);                                                            \
      } else {                                                                                                                   \
        FOVEA_WGMMA_SHARED(k, n, "k32", "e5m2.e5m2", "", i0, i1, i2);                                                            \
      }                                                                                                                          \
    }                                                                                                                            \
    template <DType T, int kTransposeB>                                                                                          \
    static __device__ __forceinline__ void multiply(float (&d)[n / 2], const uint32_t (&a)[4], uint64_t b, int32_t accumulate) { \
      if constexpr (T == DType::bf16) {                                                                                          \
        FOVEA_WGMMA_REGISTER(k, n, "k16", "bf16.bf16", ", %" #i6, i0, i1, i2, i3, i4, i5, , "n"(kTransposeB));                   \
      } else if constexpr (T == DType::f16) {                                                                                    \
        FOVEA_WGMMA_REGISTER(k, n, "k16", "f16.f16", ", %" #i6, i0, i1, i2, i3, i4, i5, , "n"(kTransposeB));                     \
      } else if constexpr (T == DType::e4m3) {                                                                                   \
        FOVEA_WGMMA_REGISTER(k, n, "k32", "e4m3.e4m3", "", i0, i1, i2, i3, i4, i5);                                              \
      } else {                                                                                                                   \
        FOVEA_WGMMA_REGISTER(k, n, "k32", "e5m2.e5m2", "", i0, i1, i2, i3, i4, i5);                                              \
      }                                                                                                                          \
    }                                                                                                                            \
  };
FOVEA_WGMMA_SHAPES(FOVEA_WGMMA_SHAPE)
#undef FOVEA_WGMMA_SHAPE
#undef FOVEA_WGMMA_REGISTER
#undef FOVEA_WGMMA_SHARED

constexpr bool is_wgmma_type(DType t) { return t == DType::bf16 || t == DType::f16 || t == DType::e4m3 || t == DType::e5m2; }

/// d = a b, plus d with `accumulate`. 16 elements of k of 16-bit types, 32 of 8-bit ones. kTransposeX: X is MN-major (16-bit types alone).
template <DType T, bool kTransposeA, bool kTransposeB, int kFloats>
__device__ __forceinline__ void wgmma(float (&d)[kFloats], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(is_wgmma_type(T) && kFloats % 4 == 0 && kFloats <= 128, "wgmma takes f16, bf16, e4m3, e5m2 and N = 8, 16, .. 256");
  static_assert(row_of(T).bits == 16 || !(kTransposeA || kTransposeB), "8-bit operands are K-major");
  WgmmaShape<2 * kFloats>::template multiply<T, kTransposeA, kTransposeB>(d, a, b, accumulate);
}
template <DType T, bool kTransposeB, int kFloats>
__device__ __forceinline__ void wgmma(float (&d)[kFloats], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(is_wgmma_type(T) && kFloats % 4 == 0 && kFloats <= 128, "wgmma takes f16, bf16, e4m3, e5m2 and N = 8, 16, .. 256");
  static_assert(row_of(T).bits == 16 || !kTransposeB, "8-bit operands are K-major");
  WgmmaShape<2 * kFloats>::template multiply<T, kTransposeB>(d, a, b, accumulate);
}

}  // namespace fovea::ptx
