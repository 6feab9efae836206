// A thread block as portable/planner.h runs on it. Every member is called by all threads with the same arguments and ends with a barrier,
// unless it says otherwise.
#pragma once

#include "backends/cuda/kernels/plan/params.h"

namespace fovea::cuda::plan {

/// A value of whole words from another lane, word by word.
template <class T, class Shuffle>
__device__ __forceinline__ T shuffled(const T& value, const Shuffle& shuffle) {
  static_assert(sizeof(T) % 4 == 0, "words");
  struct Words {
    uint32_t word[sizeof(T) / 4];
  };
  Words words = __builtin_bit_cast(Words, value);
#pragma unroll
  for (uint32_t i = 0; i < sizeof(T) / 4; ++i) {
    words.word[i] = shuffle(words.word[i]);
  }
  return __builtin_bit_cast(T, words);
}
template <class T>
__device__ __forceinline__ T from_lane_below(const T& value, int32_t lanes) {
  return shuffled(value, [&](uint32_t word) { return __shfl_up_sync(0xffffffffu, word, static_cast<uint32_t>(lanes)); });
}
template <class T>
__device__ __forceinline__ T from_lane(const T& value, int32_t lane) {
  return shuffled(value, [&](uint32_t word) { return __shfl_sync(0xffffffffu, word, lane); });
}

struct Plus {
  template <class T>
  __device__ __forceinline__ T operator()(const T& a, const T& b) const {
    return a + b;
  }
};

class Block {
 public:
  /// `shared`: kBlockBytes of shared memory.
  __device__ __forceinline__ explicit Block(char* shared) : totals_(shared), counters_(reinterpret_cast<int32_t*>(shared + kTotalsBytes)) {}

  template <class Step>
  __device__ __forceinline__ void each(int32_t count, const Step& step) const {
#pragma unroll 1
    for (int32_t i = thread(); i < count; i += kThreads) {
      step(i);
    }
    __syncthreads();
  }
  template <class Step>
  __device__ __forceinline__ void once(const Step& step) const {
    first(step);
    __syncthreads();
  }
  /// One thread's step, that nothing here waits for: without a barrier.
  template <class Step>
  __device__ __forceinline__ void first(const Step& step) const {
    if (threadIdx.x == 0) {
      step();
    }
  }
  __device__ __forceinline__ void sync() const { __syncthreads(); }
  /// Is it true of some step?
  template <class Step>
  __device__ __forceinline__ bool any(int32_t count, const Step& step) const {
    int32_t found = 0;
#pragma unroll 1
    for (int32_t i = thread(); i < count; i += kThreads) {
      found |= static_cast<int32_t>(step(i));
    }
    return __syncthreads_or(found) != 0;
  }

  /// out[i] = value(0) + .. + value(i - 1), out[count] the total. `out` may be where value(i) reads, at i. A warp has a piece, lanes side
  /// by side: sums within the piece first, then all of it moves by what is before.
  template <class T, class Value>
  __device__ __forceinline__ T scan(int32_t count, T zero, const Value& value, T* out) const {
    const int32_t each = piece(count), begin = warp() * each, end = min_(count, begin + each);
    T running = zero, before = zero;
#pragma unroll 1
    for (int32_t i = begin + lane(); i - lane() < end; i += 32) {
      const T upto = scan_of_warp(i < end ? value(i) : zero, Plus{});
      const T below = from_lane_below(upto, 1);
      before = lane() > 0 ? running + below : running;
      if (each > 32 && i < end) {
        out[i] = before;
      }
      running = running + from_lane(upto, 31);
    }
    T total;
    const T before_piece = sum_before_warp(running, zero, Plus{}, total);
    if (each <= 32 && begin + lane() < end) {  // one round: never written
      out[begin + lane()] = before_piece + before;
    } else if (each > 32) {
#pragma unroll 4
      for (int32_t i = begin + lane(); i < end; i += 32) {
        out[i] = before_piece + out[i];
      }
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
    const int32_t each = ceil_div(count, kThreads), begin = min_(count - 1, thread() * each), end = min_(count, begin + each);
    // Threads without elements repeat the last: join(x, x) is x, and nothing comes behind them.
    const T start = array[0];  // joins everything already: it changes nothing
    T sum = array[begin];
#pragma unroll 1
    for (int32_t i = begin + 1; i < end; ++i) {
      sum = join(sum, array[i]);
    }
    T total;
    const T upto = scan_of_warp(sum, join);
    const T below = from_lane_below(upto, 1);
    T running = sum_before_warp(upto, start, join, total);
    running = lane() > 0 ? join(running, below) : running;
    if (thread() * each < count) {
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
    for (int32_t i = thread(); i < count; i += kThreads) {
      own = own + static_cast<T>(value(i));
    }
    T total;
    sum_before_warp(scan_of_warp(own, Plus{}), T{0}, Plus{}, total);
    __syncthreads();
    return total;
  }

  /// write(i, place) for all i: places in descending order of key(i) (0 .. kMaxKeys - 1), equal keys in the order of i.
  template <class Key, class Write>
  __device__ __forceinline__ void sort_descending(int32_t count, const Key& key, const Write& write) const {
    const int32_t each = piece(count), begin = warp() * each, end = min_(count, begin + each);
    counters_[thread()] = 0;
    __syncthreads();
#pragma unroll 1
    for (int32_t i = begin + lane(); i - lane() < end; i += 32) {
      const int32_t mine = i < end ? key(i) : kMaxKeys;
      const uint32_t same = __match_any_sync(0xffffffffu, mine);
      if (i < end && (same & lanes_below()) == 0) {
        counter(mine) += __popc(same);
      }
      __syncwarp();
    }
    __syncthreads();
    int32_t total;
    const int32_t own = counters_[thread()];
    const int32_t upto = scan_of_warp(own, Plus{});
    counters_[thread()] = sum_before_warp(upto, 0, Plus{}, total) + upto - own;
    __syncthreads();
#pragma unroll 1
    for (int32_t i = begin + lane(); i - lane() < end; i += 32) {
      const int32_t mine = i < end ? key(i) : kMaxKeys;
      const uint32_t same = __match_any_sync(0xffffffffu, mine);
      if (i < end) {
        write(i, counter(mine) + __popc(same & lanes_below()));
      }
      __syncwarp();
      if (i < end && (same & lanes_below()) == 0) {
        counter(mine) += __popc(same);
      }
      __syncwarp();
    }
    __syncthreads();
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
  static constexpr int32_t kWarps = kThreads / 32, kMaxKeys = 32;
  static_assert(kWarps <= 32 && kMaxKeys * kWarps == kThreads, "a counter a thread");

  __device__ __forceinline__ static int32_t thread() { return static_cast<int32_t>(threadIdx.x); }
  __device__ __forceinline__ static int32_t lane() { return thread() % 32; }
  __device__ __forceinline__ static int32_t warp() { return thread() / 32; }
  __device__ __forceinline__ static uint32_t lanes_below() { return (1u << lane()) - 1; }
  /// Of `count` for a warp: whole rounds of its lanes.
  __device__ __forceinline__ static int32_t piece(int32_t count) { return ceil_div(count, kThreads) * 32; }
  /// Of this warp and a key: those of larger keys come first, then those of warps before.
  __device__ __forceinline__ int32_t& counter(int32_t key) const { return counters_[(kMaxKeys - 1 - key) * kWarps + warp()]; }

  /// Of lanes up to this one; of the first kLanes.
  template <int32_t kLanes = 32, class T, class Join>
  __device__ __forceinline__ static T scan_of_warp(T sum, const Join& join) {
#pragma unroll
    for (int32_t step = 1; step < kLanes; step *= 2) {
      const T below = from_lane_below(sum, step);
      if (lane() >= step) {
        sum = join(below, sum);
      }
    }
    return sum;
  }

  /// The join of `start` and what the warps before this one bring, lane 31's `upto` each; `total`: of all. A barrier must follow before the
  /// next call.
  template <class T, class Join>
  __device__ __forceinline__ T sum_before_warp(const T& upto, const T& start, const Join& join, T& total) const {
    static_assert(sizeof(T) * kWarps <= kTotalsBytes, "a warp's total");
    T* totals = reinterpret_cast<T*>(totals_);
    if (lane() == 31) {
      totals[warp()] = upto;
    }
    __syncthreads();
    const T of_warps = scan_of_warp<kWarps>(totals[min_(lane(), kWarps - 1)], join);
    total = join(start, from_lane(of_warps, kWarps - 1));
    const T before = from_lane(of_warps, max_(0, warp() - 1));
    return warp() > 0 ? join(start, before) : start;
  }

  char* totals_;
  int32_t* counters_;
};

}  // namespace fovea::cuda::plan
