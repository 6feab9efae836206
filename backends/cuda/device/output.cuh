// Where a row's state goes: finalised into the output, or as a partial or level state in float.
#pragma once

#include "backends/cuda/device/ptx/convert.cuh"
#include "backends/cuda/device/rows.cuh"
#include "portable/convert.h"
#include "portable/state.h"

namespace fovea::cuda {

/// Element `index` of an output of f32, f16 or bf16.
__device__ __forceinline__ void store_element(DType dtype, void* data, int64_t index, float x) {
  if (dtype == DType::f32) {
    static_cast<float*>(data)[index] = x;
  } else if (dtype == DType::f16) {
    static_cast<uint16_t*>(data)[index] = static_cast<uint16_t>(ptx::pack_pair<DType::f16>(x, 0.0f));
  } else {
    static_cast<uint16_t*>(data)[index] = static_cast<uint16_t>(ptx::pack_pair<DType::bf16>(x, 0.0f));
  }
}

/// A row's place in the output, and what is left to do to its state on the way there.
struct RowTarget {
  void* o;  // element 0 of the row
  float* lse;
  float scale;  // of o
  float lse_value;
  DType dtype;
  bool transformed;      // transform_output is still to come
  bool pairs_are_whole;  // elements 2 i and 2 i + 1 can be written together
};

__device__ __forceinline__ void* element_address(DType dtype, void* data, int64_t index) {
  return static_cast<char*>(data) + index * (row_of(dtype).bits / 8);
}

__device__ __forceinline__ RowTarget target_of(DType dtype, void* data, int64_t element, int32_t head_dim) {
  RowTarget target{.o = element_address(dtype, data, element), .scale = 1.0f, .dtype = dtype};
  target.pairs_are_whole = head_dim % 2 == 0 && (reinterpret_cast<uint64_t>(target.o) & (dtype == DType::f32 ? 7 : 3)) == 0;
  return target;
}

/// The output row of a whole state.
template <class V>
__device__ __forceinline__ RowTarget target_of_output(const KernelParams& params, const V& v, const Row& row, int32_t kv_head, float lse2) {
  const OutView& out = params.out;
  RowTarget target = target_of(out.dtype, out.o, row.token * out.token_stride + row.qo_head * out.head_stride, params.head_dim_vo);
  const bool empty = V::use_softmax && lse2 == -math::infinity<float>();  // o = 0, lse = -inf, with an extra logit too
  target.transformed = !params.write_states && !empty;
  if (target.transformed) {
    const Finalised<float> f = finalise(v, lse2, position_of(row, kv_head, 0));
    target.scale = f.scale;
    lse2 = params.lse_with_extra ? f.lse2_with_extra : lse2;
  }
  target.lse = out.lse == nullptr ? nullptr : out.lse + row.token * out.lse_token_stride + row.qo_head * out.lse_head_stride;
  target.lse_value = params.lse_base2 ? lse2 : lse2 * math::kLn2;
  return target;
}

/// A state's row among the partial or level states.
__device__ __forceinline__ RowTarget target_of_partial(const KernelParams& params, int64_t index, float lse2) {
  RowTarget target = target_of(DType::f32, params.partial.o, index * params.head_dim_vo, params.head_dim_vo);
  target.lse = params.partial.lse2 + index;
  target.lse_value = lse2;
  return target;
}

__device__ __forceinline__ void write_lse(const RowTarget& target) {
  if (target.lse != nullptr) {
    *target.lse = target.lse_value;
  }
}

/// One by one: a row that is not aligned, or ends between the two.
__device__ __noinline__ void write_pair_slowly(DType dtype, void* o, int32_t d, int32_t head_dim, float first, float second) {
  store_element(dtype, o, d, first);
  if (d + 1 < head_dim) {
    store_element(dtype, o, d + 1, second);
  }
}

/// Elements d (even, below head_dim) and d + 1 of a row. kOutput: dtype of the output; states are f32.
template <DType kOutput, class V>
__device__ __forceinline__ void write_pair(const RowTarget& target, const V& v, const Position<>& at, int32_t d, int32_t head_dim,
                                           float first, float second) {
  first *= target.scale;
  second *= target.scale;
  if constexpr (HasTransformOutput<V>) {
    first = target.transformed ? transformed_output(v, first, at) : first;
    second = target.transformed ? transformed_output(v, second, at) : second;
  }
  if (!target.pairs_are_whole) {
    write_pair_slowly(target.dtype, target.o, d, head_dim, first, second);
  } else if (target.dtype == DType::f32) {
    static_cast<float2*>(target.o)[d / 2] = {first, second};
  } else if constexpr (kOutput != DType::f32) {
    static_cast<uint32_t*>(target.o)[d / 2] = ptx::pack_pair<kOutput>(first, second);
  }
}

/// Elements [d, d + 4) of a row as far as there are so many, one by one.
__device__ __noinline__ void write_four_slowly(DType dtype, void* o, int32_t d, int32_t head_dim, float4 x) {
  const float values[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
  for (int32_t i = 0; i < 4; ++i) {
    if (d + i < head_dim) {
      store_element(dtype, o, d + i, values[i]);
    }
  }
}

/// Elements d (a multiple of 4) to d + 3 of a row, as far as there are so many. The dtype is not known when the kernel is compiled.
template <class V>
__device__ __forceinline__ void write_four(const RowTarget& target, const V& v, const Position<>& at, int32_t d, int32_t head_dim,
                                           float4 x) {
  x = {x.x * target.scale, x.y * target.scale, x.z * target.scale, x.w * target.scale};
  if constexpr (HasTransformOutput<V>) {
    if (target.transformed) {
      x = {transformed_output(v, x.x, at), transformed_output(v, x.y, at), transformed_output(v, x.z, at), transformed_output(v, x.w, at)};
    }
  }
  const bool is_float = target.dtype == DType::f32;
  if (head_dim % 4 != 0 || (reinterpret_cast<uint64_t>(target.o) & (is_float ? 15 : 7)) != 0) {
    write_four_slowly(target.dtype, target.o, d, head_dim, x);
  } else if (is_float) {
    static_cast<float4*>(target.o)[d / 4] = x;
  } else {
    const bool bf16 = target.dtype == DType::bf16;
    static_cast<uint2*>(target.o)[d / 4] = {bf16 ? ptx::pack_pair<DType::bf16>(x.x, x.y) : ptx::pack_pair<DType::f16>(x.x, x.y),
                                            bf16 ? ptx::pack_pair<DType::bf16>(x.z, x.w) : ptx::pack_pair<DType::f16>(x.z, x.w)};
  }
}

/// Whole rows: `o(d)` is element d of the state, divided by its sum; lanes take every 32nd.
template <class V, class State>
__device__ __forceinline__ void write_output(const KernelParams& params, const V& v, const Row& row, int32_t kv_head, const State& o,
                                             float lse2) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  const RowTarget target = target_of_output(params, v, row, kv_head, lse2);
  const Position<> at = position_of(row, kv_head, 0);
  for (int32_t d = lane; d < params.head_dim_vo; d += 32) {
    const float x = o(d) * target.scale;
    store_element(target.dtype, target.o, d, target.transformed ? transformed_output(v, x, at) : x);
  }
  if (lane == 0) {
    write_lse(target);
  }
}

template <class State>
__device__ __forceinline__ void write_partial(const KernelParams& params, int64_t index, const State& o, float lse2) {
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  for (int32_t d = lane; d < params.head_dim_vo; d += 32) {
    params.partial.o[index * params.head_dim_vo + d] = o(d);
  }
  if (lane == 0) {
    params.partial.lse2[index] = lse2;
  }
}

__device__ __forceinline__ int64_t level_index(const KernelParams& params, int32_t format, const Row& row) {
  return params.partial.level_begin + (static_cast<int64_t>(format) * params.partial.level_rows + row.token) * params.num_qo_heads +
         row.qo_head;
}

/// The state of packed row `r` of an item, to where the item says. A warp calls it together.
template <class V, class State>
__device__ __forceinline__ void write_row(const KernelParams& params, const V& v, const WorkItem& item, int32_t format, const Row& row,
                                          int32_t r, const State& o, float lse2) {
  if (item.partial_slot == kFinal) {
    write_output(params, v, row, item.kv_head, o, lse2);
  } else if (item.partial_slot == kLevelState) {
    write_partial(params, level_index(params, format, row), o, lse2);
  } else {
    write_partial(params, static_cast<int64_t>(item.partial_slot) * params.partial.rows_per_slot + r, o, lse2);
  }
}

/// Where packed row `r` of an item goes.
template <class V>
__device__ __forceinline__ RowTarget target_of_row(const KernelParams& params, const V& v, const WorkItem& item, int32_t format,
                                                   const Row& row, int32_t r, float lse2) {
  if (item.partial_slot == kFinal) {
    return target_of_output(params, v, row, item.kv_head, lse2);
  }
  return target_of_partial(params,
                           item.partial_slot == kLevelState ? level_index(params, format, row)
                                                            : static_cast<int64_t>(item.partial_slot) * params.partial.rows_per_slot + r,
                           lse2);
}

/// The round-th item of this CTA's part of a list, or -1. Lists are in descending order of cost. A CTA takes one of every gridDim.x items,
/// there and back again: who had the longest of some has the shortest of the next.
__device__ __forceinline__ int32_t list_item(const ScheduleView& schedule, int32_t round) {
  const int32_t worker = static_cast<int32_t>(blockIdx.x), workers = static_cast<int32_t>(gridDim.x);
  const int32_t i = round * workers + (round % 2 == 0 ? worker : workers - 1 - worker);
  return i < *schedule.num_items ? i : -1;
}

/// Calls `attend(item, round)` for every item of this CTA: its range of a ranges plan, or its part of a list. `attend` returns the round it
/// was given: a kernel that has no register to spare keeps it elsewhere.
template <PlanForm kForm, class Attend>
__device__ __forceinline__ void for_each_item(const KernelParams& params, int32_t config, const Attend& attend) {
  if constexpr (kForm == PlanForm::ranges) {
    RangeWork work(params, config, static_cast<int32_t>(blockIdx.x));
    for (WorkItem item; work.next(item);) {
      attend(item, 0);
    }
  } else {
    for (int32_t round = 0;;) {
      const ScheduleView& schedule = params.plan.schedules[config];
      const int32_t i = list_item(schedule, round);
      if (i < 0) {
        break;
      }
      const WorkItem item = schedule.items[i];
      round = attend(item, round) + 1;
    }
  }
}

}  // namespace fovea::cuda
