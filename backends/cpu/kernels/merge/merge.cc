#include "backends/cpu/kernels/merge/merge.h"

#include "backends/cpu/kernels/attention_simd/output.h"
#include "backends/cpu/kernels/attention_simd/rows.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

void merge_partials(const KernelParams& params, const VariantCode& variant, const MergeItem& item, Scratch& scratch) {
  const PartialView& partial = params.partial;
  const RowGroup& group = params.plan.groups[item.row_group];
  const int32_t head_dim = params.head_dim_vo;
  for (int32_t p = item.row_begin; p < item.row_end; ++p) {
    StateSum sum{.o = scratch.o, .lse2 = 0.0f, .empty = true};
    for (int32_t s = 0; s < item.num_slots; ++s) {
      const int64_t index = static_cast<int64_t>(item.slot_begin + s) * partial.rows_per_slot + (p - item.row_begin);
      sum.merge(partial.o + index * head_dim, partial.lse2[index], head_dim, variant.use_softmax);
    }
    const ItemRow row =
        make_row(params, {.group = group, .kv_head = item.kv_head, .row_begin = item.row_begin, .row_end = item.row_end}, p);
    if (params.num_formats > 1) {
      write_partial(partial, level_index(params, group.format, row.token, row.at.qo_head), head_dim, {.o = sum.o, .lse2 = sum.lse2});
    } else {
      write_output(params, variant, row, {.o = sum.o, .lse2 = sum.lse2});
    }
  }
}

void compose_levels(const KernelParams& params, const VariantCode& variant, int64_t begin, int64_t end, Scratch& scratch) {
  const PartialView& partial = params.partial;
  const int32_t head_dim = params.head_dim_vo;
  for (int64_t i = begin; i < end; ++i) {
    const ComposedRow& composed = params.plan.composed[i / params.num_qo_heads];
    const int32_t qo_head = static_cast<int32_t>(i % params.num_qo_heads);
    StateSum sum{.o = scratch.o, .lse2 = variant.use_softmax ? -math::infinity<float>() : 0.0f, .empty = true};
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      store(sum.o + d, zero());
    }
    for (int32_t format = 0; format < params.num_formats; ++format) {
      if ((composed.level_mask >> format & 1u) != 0) {
        const int64_t index = level_index(params, format, composed.row, qo_head);
        sum.merge(partial.o + index * head_dim, partial.lse2[index], head_dim, variant.use_softmax);
      }
    }
    const Request& request = params.plan.requests[composed.request];
    const ItemRow row{.at = {.request = composed.request,
                             .qo_idx = composed.row - request.qo_begin,
                             .q_pos = composed.q_pos,
                             .kv_pos = 0,
                             .qo_head = qo_head,
                             .kv_head = qo_head / params.group_size,
                             .qo_len = request.qo_len,
                             .kv_len = request.kv_len},
                      .token = composed.row,
                      .col_end = 0};
    write_output(params, variant, row, {.o = sum.o, .lse2 = sum.lse2});
  }
}

/// `o` is scratch of a row. A row is written after all its states are read: `out` may be one of them.
void merge_state_rows(const StatesView& states, int64_t begin, int64_t end, float* o) {
  const int32_t head_dim = states.head_dim;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t token = i / states.num_heads;
    const int64_t head = i % states.num_heads;
    float top = -math::infinity<float>();
    for (int32_t s = 0; s < states.num_states; ++s) {
      const StatesView::In& in = states.in[s];
      top = max_(top, in.lse[token * in.lse_token_stride + head * in.lse_head_stride]);
    }
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      store(o + d, zero());
    }
    float total = 0.0f;
    for (int32_t s = 0; s < states.num_states; ++s) {
      const StatesView::In& in = states.in[s];
      const float lse = in.lse[token * in.lse_token_stride + head * in.lse_head_stride];
      if (lse == -math::infinity<float>()) {
        continue;  // an empty state weighs nothing, whatever its o
      }
      const Vec weight = exp(broadcast(lse - top));
      total += first_lane(weight);
      with_dtype(in.o.dtype, [&]<DType D>() {
        const char* row = static_cast<const char*>(in.o.data) + (token * in.o.token_stride + head * in.o.head_stride) * kBytes<D>;
        for (int32_t d = 0; d < head_dim; d += kLanes) {
          store(o + d, multiply_add(weight, load_first_as<D>(row + d * kBytes<D>, min_(kLanes, head_dim - d)), load(o + d)));
        }
      });
    }
    const Vec share = broadcast(total == 0.0f ? 0.0f : 1.0f / total);
    const int64_t element = token * states.out.token_stride + head * states.out.head_stride;
    with_output_dtype(states.out.dtype, [&]<DType D>() {
      char* row = static_cast<char*>(states.out.o) + element * kBytes<D>;
      for (int32_t d = 0; d < head_dim; d += kLanes) {
        store_first_as<D>(row + d * kBytes<D>, multiply(load(o + d), share), min_(kLanes, head_dim - d));
      }
    });
    if (states.out.lse != nullptr) {
      states.out.lse[token * states.out.lse_token_stride + head * states.out.lse_head_stride] =
          total == 0.0f ? -math::infinity<float>() : top + math::log(total);  // NaN stays: it is not an empty state
    }
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
