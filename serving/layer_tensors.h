// LayerTensors: the tensors of a replay's layers on the engine's device: caches, queries, new keys and values, outputs, parameters. Made
// once; a step says how many of their rows it has.
#pragma once

#include <vector>

#include "fovea/engine.h"
#include "serving/layer_spec.h"
#include "serving/replay.h"
#include "serving/shared_buffer.h"

namespace fovea::serving {

class LayerTensors {
 public:
  /// Rows for `max_tokens`. `apart`: every layer has q, k, v and o of its own, else all share one.
  LayerTensors(const Engine& engine, const ReplayOptions& options, const LayerSpec& layers, std::int64_t max_tokens, bool apart);

  /// The first `num_tokens` rows. Valid as long as the object.
  AppendArgs append(std::int32_t layer, std::int64_t num_tokens, const TensorView& slot_mapping) const;
  RunArgs run(std::int32_t layer, std::int64_t num_tokens) const;
  std::span<const MaskValues> masks() const { return masks_; }  // one per mask group

  const SharedBuffer& q(std::int32_t layer) const { return of(q_, layer); }
  const SharedBuffer& k(std::int32_t layer) const { return of(k_, layer); }
  const SharedBuffer& v(std::int32_t layer) const { return of(v_, layer); }
  const SharedBuffer& o(std::int32_t layer) const { return of(o_, layer); }

 private:
  void make_cache(const Engine& engine, const ReplayOptions& options, const LayerSpec& layers);
  void make_values(const Engine& engine, const LayerSpec& layers);
  const SharedBuffer& of(const std::vector<SharedBuffer>& buffers, std::int32_t layer) const {
    return buffers[buffers.size() == 1 ? 0 : static_cast<std::size_t>(layer)];
  }
  TensorView rows(const SharedBuffer& buffer, std::int64_t num_tokens, std::int32_t heads, std::int32_t dim) const {
    return TensorView::contiguous(buffer.device(), DType::bf16, {num_tokens, heads, dim}, device_);
  }

  Model model_;
  KvQuant kv_quant_;
  Device device_;
  std::vector<SharedBuffer> cache_memory_;   // by layer
  std::vector<SharedBuffer> q_, k_, v_, o_;  // by layer, or one for all
  std::vector<KvCache> caches_;
  SharedBuffer sink_;
  std::vector<std::vector<Value>> mask_values_;  // by mask group
  std::vector<MaskValues> masks_;
  std::vector<Value> params_;
};

}  // namespace fovea::serving
