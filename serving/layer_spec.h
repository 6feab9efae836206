// LayerSpec: what a model's layers are to the engine: spec, masks and parameters. One home for the step and for its check.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/engine.h"
#include "serving/model.h"

namespace fovea::serving {

struct LayerSpec {
  Model model;
  DType kv_dtype = DType::bf16;
  std::int32_t shrink = 1;  // windows shrink with the tokens
  std::uint64_t seed = 1;   // of sinks

  /// Of `num_qo_heads` heads over `num_kv_heads`, q in bf16, K and V in pages.
  AttentionSpec spec(std::int32_t num_qo_heads, std::int32_t num_kv_heads, std::int32_t page_size) const;
  /// K and V in 8 bits are stored as multiples of this.
  float kv_scale() const;
  KvQuant kv_quant() const { return bytes_of(kv_dtype, 1) == 1 ? KvQuant::tensor : KvQuant::none; }

  /// Tokens that a layer sees, itself included; 0: all.
  std::int32_t window_of(std::int32_t layer) const;
  /// The mask of layers with this window (already shrunk).
  std::vector<Value> mask_values(std::int32_t window) const;
  /// One per mask group of the model.
  std::vector<std::int32_t> windows() const;
  std::vector<float> sinks() const;  // [num_qo_heads] where the model has them
};

}  // namespace fovea::serving
