// The online softmax, common to all variants: from logits (device/logits.h) to weights.
//
// Bits: a row's weights and sums never depend on the other rows of its tile.
#pragma once

#include "backends/cpu/device/variant_code.h"
#include "backends/cpu/device/vector.h"
#include "portable/math.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// The running state of an item's rows.
struct RunningRows {
  float* row_max;  // [rows]
  float* row_sum;  // [rows]
  float* o;        // [rows, o_stride]
  int32_t o_stride;
};

/// Online softmax over one tile: logits become weights relative to each row's running maximum; sums and o are rescaled where it
/// grew. `scale` multiplies the scores on the way: 1 where they are logits already.
FOVEA_FN void softmax_tile(const ScoreTile& tile, float scale, const RunningRows& running) {
  const Vec factor = broadcast(scale);
  for (int32_t r = 0; r < tile.num_rows; ++r) {
    float* scores = tile.scores + static_cast<int64_t>(r) * tile.stride;
    Vec top = broadcast(-math::infinity<float>());
    for (int32_t c = 0; c < tile.num_columns; c += kLanes) {
      top = maximum(top, multiply(load(scores + c), factor));
    }
    const float before = running.row_max[r];
    const float now = max_(before, reduce_max(top));
    const float origin = now == -math::infinity<float>() ? 0.0f : now;  // nothing seen yet: weights are e^-inf = 0
    if (now > before) {
      const Vec shrink = exp(broadcast(before - origin));
      running.row_max[r] = now;
      running.row_sum[r] *= first_lane(shrink);
      float* o = running.o + static_cast<int64_t>(r) * running.o_stride;
      for (int32_t d = 0; d < running.o_stride; d += kLanes) {
        store(o + d, multiply(load(o + d), shrink));
      }
    }
    const Vec start = broadcast(origin);
    Vec sum = zero();
    for (int32_t c = 0; c < tile.num_columns; c += kLanes) {
      const Vec weight = exp(subtract(multiply(load(scores + c), factor), start));
      store(scores + c, weight);
      sum = add(sum, weight);
    }
    running.row_sum[r] += reduce_add(sum);
  }
}

/// weights *= v_scale, column by column. What a row doesn't see keeps weight 0, whatever its scale: 0 * NaN would be NaN.
FOVEA_FN void scale_weights(const ScoreTile& tile) {
  const float* FOVEA_RESTRICT v_scale = tile.columns->v_scale;
  for (int32_t r = 0; r < tile.num_rows; ++r) {
    float* FOVEA_RESTRICT scores = tile.scores + static_cast<int64_t>(r) * tile.stride;
    for (int32_t c = 0; c < tile.num_columns; ++c) {
      const float scaled = scores[c] * v_scale[c];
      scores[c] = scores[c] == 0.0f ? 0.0f : scaled;
    }
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
