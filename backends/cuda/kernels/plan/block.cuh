// A thread block as portable/planner.h runs on it. Every member is called by all threads with the same arguments and ends with a barrier,
// unless it says otherwise.
#pragma once

#include "backends/cuda/kernels/plan/params.h"

namespace fovea::cuda::plan {

/// Values of whole words, moved between lanes word by word.
template <class T>
__device__ __forceinline__ T from_lane_below(const T& value, int32_t lanes) {
  static_assert(sizeof(T) % 4 == 0, "words");
  T result;
  const uint32_t* from = reinterpret_cast<const uint32_t*>(&value);
  uint32_t* to = reinterpret_cast<uint32_t*>(&result);
#pragma unroll
  for (uint32_t i = 0; i < sizeof(T) / 4; ++i) {
    to[i] = __shfl_up_sync(0xffffffffu, from[i], static_cast<uint32_t>(lanes));
  }
  return result;
}

template <class T>
__device__ __forceinline__ T from_lane(const T& value, int32_t lane) {
  T result;
  const uint32_t* from = reinterpret_cast<const uint32_t*>(&value);
  uint32_t* to = reinterpret_cast<uint32_t*>(&result);
#pragma unroll
  for (uint32_t i = 0; i < sizeof(T) / 4; ++i) {
    to[i] = __shfl_sync(0xffffffffu, from[i], lane);
  }
  return result;
}

struct Plus {
  template <class T>
  __device__ __forceinline__ T operator()(const T& a, const T& b) const {
    return a + b;
  }
};

class Block {
 public:
  /// `totals`: kTotalsBytes of shared memory.
  __device__ __forceinline__ explicit Block(void* totals) : totals_(totals) {}

  template <class Step>
  __device__ __forceinline__ void each(int32_t count, const Step& step) const {
#pragma unroll 1
    for (int32_t i = thread(); i < count; i += threads()) {
      step(i);
    }
    __syncthreads();
  }
  template <class Step>
  __device__ __forceinline__ void once(const Step& step) const {
    if (threadIdx.x == 0) {
      step();
    }
    __syncthreads();
  }

  /// out[i] = value(0) + .. + value(i - 1), out[count] the total. `out` may be where value reads.
  template <class T, class Value>
  __device__ __forceinline__ T scan(int32_t count, T start, const Value& value, T* out) const {
    const int32_t each = ceil_div(count, threads()), begin = min_(count, thread() * each), end = min_(count, begin + each);
    T sum = start;
#pragma unroll 1
    for (int32_t i = begin; i < end; ++i) {
      sum = sum + value(i);
    }
    T total;
    T running = sum_before(sum, start, Plus{}, total);
#pragma unroll 1
    for (int32_t i = begin; i < end; ++i) {
      const T here = value(i);
      out[i] = running;
      running = running + here;
    }
    if (threadIdx.x == 0) {
      out[count] = total;
    }
    __syncthreads();
    return total;
  }

  /// array[i] = join of array[0] .. array[i].
  template <class T, class Join>
  __device__ __forceinline__ void scan_inclusive(int32_t count, T* array, const Join& join) const {
    const int32_t each = ceil_div(count, threads()), begin = min_(count - 1, thread() * each), end = min_(count, begin + each);
    // Threads without elements repeat the last: join(x, x) is x, and nothing comes behind them.
    T sum = array[begin];
#pragma unroll 1
    for (int32_t i = begin + 1; i < end; ++i) {
      sum = join(sum, array[i]);
    }
    T total;
    const T before = sum_before(sum, array[0], join, total);  // array[0] joins everything already: it changes nothing
    if (thread() * each < count) {
      T running = before;
#pragma unroll 1
      for (int32_t i = begin; i < end; ++i) {
        running = join(running, array[i]);
        array[i] = running;
      }
    }
    __syncthreads();
  }

  template <class T, class Value>
  __device__ __forceinline__ T sum(int32_t count, const Value& value) const {
    T own = 0;
#pragma unroll 1
    for (int32_t i = thread(); i < count; i += threads()) {
      own = own + static_cast<T>(value(i));
    }
    T total;
    sum_before(own, T{0}, Plus{}, total);
    return total;
  }

  /// What a shared word holds, the same for every thread: nobody writes it before all have read.
  template <class T>
  __device__ __forceinline__ T shared(const T* value) const {
    const T read = *value;
    __syncthreads();
    return read;
  }

  // Of one thread, without a barrier.
  template <class T>
  __device__ __forceinline__ void set_bits(T* bits, T set) const {
    if ((*static_cast<volatile T*>(bits) & set) != set) {
      atomicOr(bits, set);
    }
  }
  __device__ __forceinline__ void lower(int32_t* value, int32_t to) const { atomicMin(value, to); }
  __device__ __forceinline__ void publish() const { __threadfence_system(); }

 private:
  __device__ __forceinline__ static int32_t threads() { return static_cast<int32_t>(blockDim.x); }
  __device__ __forceinline__ static int32_t thread() { return static_cast<int32_t>(threadIdx.x); }

  /// The join of `start` and what the threads before this one bring; `total`: of all.
  template <class T, class Join>
  __device__ __forceinline__ T sum_before(const T& own, const T& start, const Join& join, T& total) const {
    static_assert(sizeof(T) * 32 <= kTotalsBytes, "a warp's total");
    const int32_t warps = threads() / 32;
    const int32_t lane = thread() % 32, warp = thread() / 32;
    T sum = own;
#pragma unroll
    for (int32_t step = 1; step < 32; step *= 2) {
      const T below = from_lane_below(sum, step);
      if (lane >= step) {
        sum = join(below, sum);
      }
    }
    T* totals = static_cast<T*>(totals_);
    if (lane == 31) {
      totals[warp] = sum;
    }
    T before = from_lane_below(sum, 1);
    __syncthreads();
    T of_warps = totals[min_(lane, warps - 1)];
#pragma unroll
    for (int32_t step = 1; step < 32; step *= 2) {
      const T below = from_lane_below(of_warps, step);
      if (lane >= step) {
        of_warps = join(below, of_warps);
      }
    }
    total = join(start, from_lane(of_warps, warps - 1));
    const T warps_before = from_lane(of_warps, max_(0, warp - 1));
    const T first = warp > 0 ? join(start, warps_before) : start;
    __syncthreads();  // Order: totals are read before they are written again
    return lane > 0 ? join(first, before) : first;
  }

  void* totals_;
};

}  // namespace fovea::cuda::plan
