// Kernels of ptx_test.cc, compiled by NVRTC as the backend compiles its own. Each does one thing with a wrapper and writes what came out.
#pragma once

namespace fovea::cuda {

/// sm_80 and newer.
inline constexpr char kWarpKernels[] = R"device(
#include "backends/cuda/device/ptx/convert.cuh"
#include "backends/cuda/device/ptx/cp_async.cuh"
#include "backends/cuda/device/ptx/mma.cuh"
using namespace fovea;

// Lane l: 16 bytes of which the first l / 2 are read, and 4 bytes or none.
extern "C" __global__ void copies(const char* in, char* out) {
  __shared__ __align__(16) char shared[32 * 16 + 32 * 4];
  const int lane = threadIdx.x;
  ptx::copy_16(ptx::shared_address(shared + 16 * lane), in + 16 * lane, lane / 2);
  ptx::copy_4(ptx::shared_address(shared + 512 + 4 * lane), in + 4 * lane, lane % 2 ? 4 : 0);
  ptx::commit_copies();
  ptx::wait_for_copies<0>();
  __syncwarp();
  for (int i = lane; i < 640; i += 32) {
    out[i] = shared[i];
  }
}

template <DType T>
__device__ void multiply(const uint16_t* a, const uint16_t* b, float* out) {  // a [16][16], b [16][8]
  __shared__ __align__(16) uint16_t shared[16 * 16 + 16 * 8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 384; i += 32) {
    shared[i] = i < 256 ? a[i] : b[i - 256];
  }
  __syncwarp();
  uint32_t x[4], y[2];
  ptx::load_matrix_x4(x, ptx::shared_address(shared + lane % 16 * 16 + lane / 16 * 8));
  ptx::load_matrix_x2_transposed(y, ptx::shared_address(shared + 256 + lane % 16 * 8));
  float d[4] = {1.0f, 2.0f, 3.0f, 4.0f};  // d is added to
  ptx::multiply_add<T>(d, x, y[0], y[1]);
  const int g = lane / 4, j = lane % 4;
  for (int i = 0; i < 4; ++i) {
    out[(g + 8 * (i / 2)) * 8 + 2 * j + i % 2] = d[i] - static_cast<float>(i + 1);
  }
}
extern "C" __global__ void multiply_f16(const uint16_t* a, const uint16_t* b, float* out) { multiply<DType::f16>(a, b, out); }
extern "C" __global__ void multiply_bf16(const uint16_t* a, const uint16_t* b, float* out) { multiply<DType::bf16>(a, b, out); }

// What a lane gets of four 8 x 8 matrices, plain and transposed, and of two.
extern "C" __global__ void load_matrices(const uint16_t* in, uint32_t* out) {
  __shared__ __align__(16) uint16_t shared[4 * 64];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) {
    shared[i] = in[i];
  }
  __syncwarp();
  const uint32_t row = ptx::shared_address(shared + 8 * lane), row2 = ptx::shared_address(shared + 8 * (lane % 16));
  uint32_t r[12];
  ptx::load_matrix_x4(reinterpret_cast<uint32_t(&)[4]>(r[0]), row);
  ptx::load_matrix_x4_transposed(reinterpret_cast<uint32_t(&)[4]>(r[4]), row);
  ptx::load_matrix_x2(reinterpret_cast<uint32_t(&)[2]>(r[8]), row2);
  ptx::load_matrix_x2_transposed(reinterpret_cast<uint32_t(&)[2]>(r[10]), row2);
  for (int i = 0; i < 12; ++i) {
    out[12 * lane + i] = r[i];
  }
}

// All 256 bytes, widened: e4m3 to f16 and bf16, e5m2 to f16 and bf16.
extern "C" __global__ void widen(uint32_t* out) {
  const uint32_t pair = threadIdx.x | (threadIdx.x ^ 0x80u) << 8;
  out[4 * threadIdx.x] = ptx::widen_pair<DType::e4m3, DType::f16>(pair);
  out[4 * threadIdx.x + 1] = ptx::widen_pair<DType::e4m3, DType::bf16>(pair);
  out[4 * threadIdx.x + 2] = ptx::widen_pair<DType::e5m2, DType::f16>(pair);
  out[4 * threadIdx.x + 3] = ptx::widen_pair<DType::e5m2, DType::bf16>(pair);
}
)device";

/// sm_90a: copies, barriers, clusters.
inline constexpr char kHopperKernels[] = R"device(
#include "backends/cuda/device/ptx/barrier.cuh"
#include "backends/cuda/device/ptx/bulk_copy.cuh"
#include "backends/cuda/device/ptx/cluster.cuh"
#include "backends/cuda/device/ptx/cp_async.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/device/ptx/mbarrier.cuh"
#include "backends/cuda/device/ptx/mma.cuh"
using namespace fovea;

// [8][64] 16-bit elements by stmatrix, plain and transposed, from what ldmatrix loads: x4 of the first four 8 x 8 matrices, x2 of two.
extern "C" __global__ void store_matrices(const uint16_t* in, uint16_t* out) {
  __shared__ __align__(16) uint16_t shared[256], stored[3 * 256];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) {
    shared[i] = in[i];
    stored[i] = stored[256 + i] = stored[512 + i] = 0;
  }
  __syncwarp();
  uint32_t r[4], r2[2];
  ptx::load_matrix_x4(r, ptx::shared_address(shared + 8 * lane));
  ptx::load_matrix_x2(r2, ptx::shared_address(shared + 8 * (lane % 16)));
  ptx::store_matrix_x4(ptx::shared_address(stored + 8 * lane), r);
  ptx::store_matrix_x4_transposed(ptx::shared_address(stored + 256 + 8 * lane), r);
  ptx::store_matrix_x2(ptx::shared_address(stored + 512 + 8 * (lane % 16)), r2);
  ptx::store_matrix_x2_transposed(ptx::shared_address(stored + 640 + 8 * (lane % 16)), r2);
  __syncwarp();
  for (int i = lane; i < 768; i += 32) {
    out[i] = stored[i];
  }
}

// 4096 bytes in and out by plain bulk copies, in two phases of one mbarrier.
extern "C" __global__ void copy_bytes(const char* in, char* out) {
  __shared__ __align__(128) char shared[4096];
  __shared__ uint64_t barrier;
  const uint32_t b = ptx::shared_address(&barrier);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(b, 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  for (uint32_t phase = 0; phase < 2; ++phase) {
    if (threadIdx.x < 32 && ptx::elect_one()) {
      ptx::mbarrier_arrive_and_expect(b, 2048);
      ptx::load_bytes(ptx::shared_address(shared + 2048 * phase), in + 2048 * phase, 1024, b, ptx::kEvictFirst);
      ptx::load_bytes(ptx::shared_address(shared + 2048 * phase + 1024), in + 2048 * phase + 1024, 1024, b, ptx::kEvictLast);
    }
    ptx::mbarrier_wait(b, phase);
  }
  for (int i = threadIdx.x; i < 4096; i += blockDim.x) {
    shared[i] += 1;
  }
  ptx::fence_shared_for_async();
  __syncthreads();
  if (threadIdx.x < 32 && ptx::elect_one()) {
    ptx::store_bytes(out, ptx::shared_address(shared), 2048);
    ptx::commit_bulk_stores();
    ptx::store_bytes(out + 2048, ptx::shared_address(shared + 2048), 2048);
    ptx::commit_bulk_stores();
    ptx::wait_for_bulk_reads<1>();
    ptx::wait_for_bulk_stores<0>();
  }
}

// Boxes of a paged cache (4-D, 5-D) and of a plain matrix (2-D), as they lie in shared memory; the 2-D one goes back out too.
extern "C" __global__ void boxes(const __grid_constant__ ptx::TensorMap paged4, const __grid_constant__ ptx::TensorMap paged5,
                                 const __grid_constant__ ptx::TensorMap matrix, const __grid_constant__ ptx::TensorMap matrix_out,
                                 uint32_t* out, int slot, int head, int page) {
  __shared__ __align__(1024) uint32_t shared[3 * 1024];  // 16 rows x 128 bytes; [2][16] rows; 8 rows
  __shared__ uint64_t barrier;
  const uint32_t b = ptx::shared_address(&barrier), to = ptx::shared_address(shared);
  for (int i = threadIdx.x; i < 3072; i += blockDim.x) {
    shared[i] = 0xdeadbeef;
  }
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(b, 3);
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(paged4);
  }
  ptx::fence_shared_for_async();
  __syncthreads();
  if (threadIdx.x < 32 && ptx::elect_one()) {
    ptx::mbarrier_expect_bytes(b, 2048 + 4096);
    ptx::load_box(to, paged4, b, ptx::kEvictFirst, 64, slot, head, page);
    ptx::load_box(to + 4096, paged5, b, ptx::kEvictNormal, 0, slot, 0, head, page);
    ptx::mbarrier_arrive(b, 2);
    ptx::mbarrier_arrive_and_expect(b, 1024);
    ptx::load_box(to + 8192, matrix, b, ptx::kEvictFirst, 0, slot);
  }
  ptx::mbarrier_wait(b, 0);
  for (int i = threadIdx.x; i < 3072; i += blockDim.x) {
    out[i] = shared[i];
  }
  __syncthreads();
  if (threadIdx.x < 32 && ptx::elect_one()) {
    ptx::store_box(matrix_out, to + 8192, 0, 8);
    ptx::commit_bulk_stores();
    ptx::wait_for_bulk_stores<0>();
  }
}

// Arrivals by cp.async, and one arrival that counts for many.
extern "C" __global__ void arrivals(const int* in, int* out) {
  __shared__ __align__(16) int shared[4 * 128];
  __shared__ uint64_t barriers[2];
  const uint32_t by_copies = ptx::shared_address(&barriers[0]), by_one = ptx::shared_address(&barriers[1]);
  const int t = threadIdx.x;
  if (t == 0) {
    ptx::mbarrier_init(by_copies, 128);
    ptx::mbarrier_init(by_one, 128);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  ptx::copy_16(ptx::shared_address(shared + 4 * t), in + 4 * t, 16);
  ptx::mbarrier_arrive_after_copies(by_copies);
  if (t < 32) {
    ptx::mbarrier_wait(by_copies, 0);
    for (int i = t; i < 512; i += 32) {
      out[i] = shared[i];
    }
    if (t == 0) {
      ptx::mbarrier_arrive(by_one, 128);
    }
  }
  ptx::mbarrier_wait(by_one, 0);
  out[512 + t] = ptx::mbarrier_try_wait(by_one, 1);  // the next phase has not ended
}

// Two barriers between halves of a CTA; `any` of 64 of its threads.
extern "C" __global__ void barriers(int* out) {
  __shared__ int shared[128];
  const int t = threadIdx.x;
  if (t < 64) {
    shared[t] = t;
    ptx::barrier_arrive<1, 128>();
    out[t] = ptx::barrier_any<2, 64>(t == 37);
    out[t] += 2 * ptx::barrier_any<2, 64>(t == 64);
  } else {
    ptx::barrier_sync<1, 128>();
    out[t] = shared[127 - t];
  }
}

// Clusters of 4. out [CTA][0..3]: rank, ranks, the next CTA's word, sum of what all CTAs pushed; then 32 words of a box that CTA 0 loaded
// for CTAs 0, 1 and 3.
extern "C" __global__ void __cluster_dims__(4, 1, 1) clusters(const __grid_constant__ ptx::TensorMap matrix, int* out) {
  __shared__ __align__(128) uint32_t box[8 * 32];
  __shared__ __align__(16) uint4 pushed[4];
  __shared__ uint32_t word;
  __shared__ uint64_t storage[3];
  const uint32_t push = ptx::shared_address(&storage[0]), loaded = ptx::shared_address(&storage[1]),
                 counted = ptx::shared_address(&storage[2]);
  const int rank = ptx::cluster_cta(), ranks = ptx::cluster_ctas(), t = threadIdx.x;
  if (t == 0) {
    ptx::mbarrier_init(push, 1);
    ptx::mbarrier_init(loaded, 1);
    ptx::mbarrier_init(counted, ranks);
    ptx::fence_mbarrier_init();
    word = 100 + rank;
    ptx::mbarrier_arrive_and_expect(push, 16 * ranks);
    if (rank != 2) {
      ptx::mbarrier_arrive_and_expect(loaded, 1024);
    }
  }
  for (int i = t; i < 256; i += 32) {
    box[i] = 7;
  }
  ptx::fence_shared_for_async();
  __syncthreads();
  ptx::cluster_sync();
  const uint32_t neighbour = ptx::load_from_cluster(ptx::cluster_address(ptx::shared_address(&word), (rank + 1) % ranks));
  if (t < ranks) {
    const uint32_t value = 1u << (4 * rank);
    ptx::store_into_cluster(ptx::cluster_address(ptx::shared_address(&pushed[rank]), t), uint4{value, 0, 0, value},
                            ptx::cluster_address(push, t));
    ptx::mbarrier_arrive_in_cluster(ptx::cluster_address(counted, t));
  }
  if (rank == 0 && ptx::elect_one()) {
    ptx::load_box_into_cluster(ptx::shared_address(box), matrix, loaded, 0b1011, 0, 8);
  }
  ptx::mbarrier_wait(push, 0);
  ptx::mbarrier_wait(counted, 0);
  if (rank != 2) {
    ptx::mbarrier_wait(loaded, 0);
  }
  int* mine = out + blockIdx.x * 36;
  if (t == 0) {
    mine[0] = rank;
    mine[1] = ranks;
    mine[2] = neighbour;
    mine[3] = 0;
    for (int i = 0; i < 4; ++i) {
      mine[3] += pushed[i].x + pushed[i].y + pushed[i].w;
    }
  }
  mine[4 + t] = box[t];
  ptx::cluster_sync();  // nobody leaves while others read its memory
}

// A chain: every link adds 1 to what the one before wrote, late.
extern "C" __global__ void link(int* values, int n) {
  ptx::let_next_grid_start();
  ptx::wait_for_previous_grid();
  const long long start = clock64();
  while (clock64() - start < 20000) {
  }
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  values[(n + 1) * 1024 + i] = values[n * 1024 + 1023 - i] + 1;
}
)device";

/// sm_90a: wgmma.
inline constexpr char kWgmmaKernels[] = R"device(
#include "backends/cuda/device/ptx/barrier.cuh"
#include "backends/cuda/device/ptx/convert.cuh"
#include "backends/cuda/device/ptx/cp_async.cuh"
#include "backends/cuda/device/ptx/registers.cuh"
#include "backends/cuda/device/ptx/wgmma.cuh"
using namespace fovea;

enum Kind { k_major, mn_major, mn_cores, in_registers };  // where an operand lies; cores: 8 x 16 bytes without a swizzle

constexpr int kBytes = 32768;  // room for a

/// Rows x 128 elements of `width` bytes from global memory into shared memory, laid out as `kind` says.
__device__ __noinline__ void lay_out(char* to, const uint8_t* from, int rows, int width, Kind kind) {
  for (int i = threadIdx.x; i < rows * 128; i += blockDim.x) {
    const int row = i / 128, k = i % 128, per_row = 128 / width, piece = 16 / width;
    int place = row / 8 * 128 * 16 + k * 16 + row % 8 * 2;
    if (kind == k_major) {
      place = k / per_row * rows * 128 + row * 128 + ((k % per_row / piece) ^ (row & 7)) * 16 + k % piece * width;
    } else if (kind == mn_major) {
      place = row / 64 * 128 * 128 + k * 128 + ((row % 64 / 8) ^ (k & 7)) * 16 + row % 8 * 2;
    }
    for (int byte = 0; byte < width; ++byte) {
      to[place + byte] = from[i * width + byte];
    }
  }
}

/// Operand of k step `s`.
template <DType T, int kRows, Kind kKind>
__device__ uint64_t operand(uint32_t shared, int s) {
  if (kKind == k_major) {
    return ptx::wgmma_operand(shared + s / 4 * kRows * 128 + s % 4 * 32, 16, 1024, ptx::Swizzle::bytes_128);
  } else if (kKind == mn_major) {
    return ptx::wgmma_operand(shared + s * 2048, 128 * 128, 1024, ptx::Swizzle::bytes_128);
  } else {
    return ptx::wgmma_operand(shared + s * 256, 128, 128 * 16, ptx::Swizzle::none);
  }
}

/// out [64][N] = a [64][128] b [N][128] transposed.
template <DType T, int N, Kind kA, Kind kB>
__device__ __forceinline__ void product(const uint8_t* a, const uint8_t* b, float* out, char* shared) {
  constexpr int kWidth = row_of(T).bits / 8, kStep = 32 / kWidth;
  __syncthreads();
  if (kA != in_registers) {
    lay_out(shared, a, 64, kWidth, kA);
  }
  lay_out(shared + kBytes, b, N, kWidth, kB);
  ptx::fence_shared_for_async();
  __syncthreads();
  float d[N / 2];
  for (int i = 0; i < N / 2; ++i) {
    d[i] = 1e30f;  // the first product doesn't add to it
  }
  const uint32_t at = ptx::shared_address(shared);
  const int warp = threadIdx.x / 32 % 4, g = threadIdx.x % 32 / 4, j = threadIdx.x % 4;
  uint32_t fragments[128 / kStep][4];
  if constexpr (kA == in_registers) {
    for (int s = 0; s < 128 / kStep; ++s) {
      for (int i = 0; i < 4; ++i) {
        const int row = 16 * warp + g + 8 * (i % 2), k = kStep * s + kStep / 2 * (i / 2) + 4 / kWidth * j;
        fragments[s][i] = *reinterpret_cast<const uint32_t*>(a + (row * 128 + k) * kWidth);
      }
    }
  }
  ptx::keep(d);
  ptx::wgmma_fence();
#pragma unroll
  for (int s = 0; s < 128 / kStep; ++s) {
    const uint64_t y = operand<T, N, kB>(at + kBytes, s);
    if constexpr (kA == in_registers) {
      ptx::wgmma<T, kB != k_major>(d, fragments[s], y, s > 0);
    } else {
      ptx::wgmma<T, kA != k_major, kB != k_major>(d, operand<T, 64, kA>(at, s), y, s > 0);
    }
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::keep(d);
  if constexpr (kA == in_registers) {
    for (int s = 0; s < 128 / kStep; ++s) {
      ptx::keep(fragments[s]);
    }
  }
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    out[(16 * warp + g + 8 * (i % 4 / 2)) * N + 8 * (i / 4) + 2 * j + i % 2] = d[i];
  }
}

extern __shared__ __align__(1024) char shared[];

// Products of several N, their results one behind the other.
template <DType T, Kind kA, Kind kB, int N, int kLast, int kNext>
__device__ __forceinline__ void products(const uint8_t* a, const uint8_t* b, float* out) {
  product<T, N, kA, kB>(a, b, out, shared);
  if constexpr (N + kNext <= kLast) {
    products<T, kA, kB, N + kNext, kLast, kNext>(a, b, out + 64 * N);
  }
}
#define FOVEA_PRODUCTS(name, type, a_kind, b_kind, first, last, step)                                              \
  extern "C" __global__ void __launch_bounds__(128, 1) name(const uint8_t* a, const uint8_t* b, float* out) {      \
    products<DType::type, a_kind, b_kind, first, last, step>(a, b, out);                                           \
  }
FOVEA_PRODUCTS(n_from_8, bf16, k_major, k_major, 8, 32, 8)
FOVEA_PRODUCTS(n_from_40, bf16, k_major, k_major, 40, 64, 8)
FOVEA_PRODUCTS(n_from_72, bf16, k_major, k_major, 72, 96, 8)
FOVEA_PRODUCTS(n_from_104, bf16, k_major, k_major, 104, 128, 8)
FOVEA_PRODUCTS(n_from_136, bf16, k_major, k_major, 136, 160, 8)
FOVEA_PRODUCTS(n_from_168, bf16, k_major, k_major, 168, 192, 8)
FOVEA_PRODUCTS(n_from_200, bf16, k_major, k_major, 200, 224, 8)
FOVEA_PRODUCTS(n_from_232, bf16, k_major, k_major, 232, 256, 8)
FOVEA_PRODUCTS(f16_keys, f16, k_major, k_major, 8, 64, 8)
FOVEA_PRODUCTS(a_mn_major, bf16, mn_major, k_major, 8, 64, 8)
FOVEA_PRODUCTS(a_mn_major_b_cores, bf16, mn_major, mn_cores, 8, 64, 8)
FOVEA_PRODUCTS(f16_a_mn_major_b_cores, f16, mn_major, mn_cores, 8, 64, 8)
FOVEA_PRODUCTS(b_mn_major, bf16, k_major, mn_major, 64, 192, 64)
FOVEA_PRODUCTS(a_in_registers, bf16, in_registers, k_major, 8, 256, 248)
FOVEA_PRODUCTS(a_in_registers_b_mn_major, f16, in_registers, mn_major, 64, 128, 64)
FOVEA_PRODUCTS(e4m3_keys, e4m3, k_major, k_major, 8, 256, 31 * 8)
FOVEA_PRODUCTS(e5m2_in_registers, e5m2, in_registers, k_major, 32, 64, 32)

// The loop of a prefill kernel: weights of tile n go into wgmma as registers while the scores of tile n + 1 are made, 3 warpgroups, exact
// integers. o [64][64] = sum over tiles of (q k_n mod 3 - 1) v_n; out [CTA][warpgroup][64][64].
extern "C" __global__ void __launch_bounds__(384, 1) overlapped(const uint8_t* q, const uint8_t* kv, float* out, int num_tiles) {
  constexpr int kTile = 64 * 128;  // k and v of a tile: 64 tokens x 64 elements
  for (int i = threadIdx.x; i < 64 * 64; i += blockDim.x) {
    const int row = i / 64, column = i % 64, place = row * 128 + ((column / 8) ^ (row & 7)) * 16 + column % 8 * 2;
    *reinterpret_cast<uint16_t*>(shared + place) = reinterpret_cast<const uint16_t*>(q)[i];
    for (int n = 0; n < num_tiles; ++n) {
      *reinterpret_cast<uint16_t*>(shared + kTile * (n + 1) + place) = reinterpret_cast<const uint16_t*>(kv)[n * 4096 + i];
    }
  }
  ptx::fence_shared_for_async();
  __syncthreads();
  const uint32_t at = ptx::shared_address(shared);
  float s[32], o[32];
  uint32_t p[4][4];
  const auto scores = [&](int n) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      ptx::wgmma<DType::bf16, false, false>(s, ptx::wgmma_operand(at + 32 * step, 16, 1024, ptx::Swizzle::bytes_128),
                                            ptx::wgmma_operand(at + kTile * (n + 1) + 32 * step, 16, 1024, ptx::Swizzle::bytes_128), step > 0);
    }
    ptx::wgmma_commit();
  };
  const auto weigh = [&] {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      s[i] = s[i] - 3.0f * floorf(s[i] * (1.0f / 3.0f) + 0.01f) - 1.0f;
    }
  };
  const auto round = [&] {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      p[i / 4][i % 4] = ptx::pack_pair<DType::bf16>(s[2 * i], s[2 * i + 1]);
    }
  };
  ptx::keep(s);
  ptx::wgmma_fence();
  scores(0);
  ptx::wgmma_wait<0>();
  ptx::keep(s);
  weigh();
  round();
  for (int n = 0; n < num_tiles; ++n) {
    ptx::keep(s);
    ptx::keep(o);
    ptx::wgmma_fence();
    scores(n + 1 < num_tiles ? n + 1 : 0);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      ptx::wgmma<DType::bf16, true>(o, p[step], ptx::wgmma_operand(at + kTile * (n + 1) + 2048 * step, 16, 1024, ptx::Swizzle::bytes_128),
                                    n > 0 || step > 0);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    ptx::keep(s);
    weigh();
    ptx::wgmma_wait<0>();
    ptx::keep(o);
    for (int step = 0; step < 4; ++step) {
      ptx::keep(p[step]);
    }
    round();
  }
  const int group = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, g = threadIdx.x % 32 / 4, j = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    out[((blockIdx.x * 3 + group) * 64 + 16 * warp + g + 8 * (i % 4 / 2)) * 64 + 8 * (i / 4) + 2 * j + i % 2] = o[i];
  }
}

// One warpgroup gives registers, two take them: more than 65536 / 384 live in each.
extern "C" __global__ void __launch_bounds__(384, 1) moved_registers(float* out, int n) {
  if (threadIdx.x < 128) {
    ptx::give_registers<24>();
    out[threadIdx.x] = 1.0f;
  } else {
    ptx::take_registers<240>();
    float x[200];
#pragma unroll
    for (int i = 0; i < 200; ++i) {
      x[i] = out[384 + (threadIdx.x * 7 + i) % 256];
    }
    for (int step = 0; step < n; ++step) {
#pragma unroll
      for (int i = 0; i < 200; ++i) {
        x[i] = x[i] + x[(i + 77) % 200];
      }
      ptx::keep(x);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 200; ++i) {
      sum += x[i];
    }
    out[threadIdx.x] = sum;
  }
}
)device";

}  // namespace fovea::cuda
