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

/// A row as a finalised output. `o(d)` is element d of the state, divided by its sum; lanes take every 32nd.
template <class V, class State>
__device__ __forceinline__ void write_output(const KernelParams& params, const V& v, const Row& row, int32_t kv_head, const State& o,
                                             float lse2) {
  const OutView& out = params.out;
  const int32_t lane = static_cast<int32_t>(threadIdx.x % 32);
  const Position<> at = position_of(row, kv_head, 0);
  const bool empty = V::use_softmax && lse2 == -math::infinity<float>();  // o = 0, lse = -inf, with an extra logit too
  const bool finalised = !params.write_states && !empty;
  float scale = 1.0f;
  if (finalised) {
    const Finalised<float> f = finalise(v, lse2, at);
    scale = f.scale;
    lse2 = params.lse_with_extra ? f.lse2_with_extra : lse2;
  }
  const int64_t element = row.token * out.token_stride + row.qo_head * out.head_stride;
  for (int32_t d = lane; d < params.head_dim_vo; d += 32) {
    const float x = o(d) * scale;
    store_element(out.dtype, out.o, element + d, finalised ? transformed_output(v, x, at) : x);
  }
  if (lane == 0 && out.lse != nullptr) {
    out.lse[row.token * out.lse_token_stride + row.qo_head * out.lse_head_stride] = params.lse_base2 ? lse2 : lse2 * math::kLn2;
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

/// Calls `attend(item)` for every item of this CTA: its range of a ranges plan, or every gridDim.x-th item of a list, which is in
/// descending order of cost.
template <PlanForm kForm, class Attend>
__device__ __forceinline__ void for_each_item(const KernelParams& params, int32_t config, const Attend& attend) {
  const int32_t worker = static_cast<int32_t>(blockIdx.x);
  if constexpr (kForm == PlanForm::ranges) {
    RangeWork work(params, config, worker);
    for (WorkItem item; work.next(item);) {
      attend(item);
    }
  } else {
    const ScheduleView& schedule = params.plan.schedules[config];
    const int32_t num_items = *schedule.num_items;
    for (int32_t i = worker; i < num_items; i += static_cast<int32_t>(gridDim.x)) {
      const WorkItem item = schedule.items[i];
      attend(item);
    }
  }
}

}  // namespace fovea::cuda
