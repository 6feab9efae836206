#include "serving/layer_tensors.h"

#include <algorithm>

namespace fovea::serving {

std::int64_t layer_cache_bytes(const ReplayOptions& options) {
  const Model& model = options.model;
  return bytes_of(options.kv_dtype, std::int64_t{options.scheduling.num_pages} * options.scheduling.page_size * model.num_kv_heads *
                                        (model.head_dim_qk + model.head_dim_vo));
}

LayerTensors::LayerTensors(const Engine& engine, const ReplayOptions& options, const LayerSpec& layers, std::int64_t max_tokens, bool apart)
    : model_(options.model), kv_quant_(layers.kv_quant()), device_(engine.device()) {
  const auto bytes = [&](std::int64_t elements) { return bytes_of(DType::bf16, max_tokens * elements); };
  for (std::int32_t layer = 0; layer < (apart ? options.num_layers : 1); ++layer) {
    q_.push_back(SharedBuffer::on_device(engine, bytes(std::int64_t{model_.num_qo_heads} * model_.head_dim_qk)));
    k_.push_back(SharedBuffer::on_device(engine, bytes(std::int64_t{model_.num_kv_heads} * model_.head_dim_qk)));
    v_.push_back(SharedBuffer::on_device(engine, bytes(std::int64_t{model_.num_kv_heads} * model_.head_dim_vo)));
    o_.emplace_back(engine, bytes(std::int64_t{model_.num_qo_heads} * model_.head_dim_vo));
  }
  for (std::int32_t layer = 0; layer < options.num_layers; ++layer) {
    make_cache(engine, options, layers);
  }
  make_values(engine, layers);
}

void LayerTensors::make_cache(const Engine& engine, const ReplayOptions& options, const LayerSpec& layers) {
  const SchedulerOptions& scheduling = options.scheduling;
  const std::int64_t num_bytes = layer_cache_bytes(options);
  cache_memory_.push_back(SharedBuffer::on_device(engine, num_bytes));
  cache_memory_.back().fill(0xff);  // NaN in every dtype: a slot read before it was written shows
  auto* const memory = static_cast<std::byte*>(cache_memory_.back().device());
  const std::int64_t k_bytes = num_bytes / (model_.head_dim_qk + model_.head_dim_vo) * model_.head_dim_qk;
  KvCache cache{
      .k = TensorView::contiguous(memory, options.kv_dtype,
                                  {scheduling.num_pages, scheduling.page_size, model_.num_kv_heads, model_.head_dim_qk}, device_),
      .v = TensorView::contiguous(memory + k_bytes, options.kv_dtype,
                                  {scheduling.num_pages, scheduling.page_size, model_.num_kv_heads, model_.head_dim_vo}, device_)};
  if (kv_quant_ != KvQuant::none) {
    cache.k_scale = cache.v_scale = layers.kv_scale();
  }
  caches_.push_back(cache);
}

/// Masks and parameters.
void LayerTensors::make_values(const Engine& engine, const LayerSpec& layers) {
  for (const std::int32_t window : layers.windows()) {
    mask_values_.push_back(layers.mask_values(window));
  }
  for (const std::vector<Value>& values : mask_values_) {
    masks_.push_back({.values = values});
  }
  if (model_.soft_cap) {
    params_.emplace_back("cap", *model_.soft_cap);
  }
  if (const std::vector<float> sinks = layers.sinks(); !sinks.empty()) {
    const auto num_bytes = static_cast<std::int64_t>(sinks.size() * sizeof(float));
    sink_ = SharedBuffer(engine, num_bytes);
    std::copy(sinks.begin(), sinks.end(), sink_.host_as<float>());
    sink_.upload(num_bytes);
    params_.emplace_back("sink", TensorView::contiguous(sink_.device(), DType::f32, {model_.num_qo_heads}, device_));
  }
}

AppendArgs LayerTensors::append(std::int32_t layer, std::int64_t num_tokens, const TensorView& slot_mapping) const {
  return {.k = rows(k(layer), num_tokens, model_.num_kv_heads, model_.head_dim_qk),
          .v = rows(v(layer), num_tokens, model_.num_kv_heads, model_.head_dim_vo),
          .cache = caches_[static_cast<std::size_t>(layer)],
          .kv_quant = kv_quant_,
          .slot_mapping = slot_mapping};
}

RunArgs LayerTensors::run(std::int32_t layer, std::int64_t num_tokens) const {
  RunArgs args{.q = rows(q(layer), num_tokens, model_.num_qo_heads, model_.head_dim_qk),
               .kv = std::span(caches_).subspan(static_cast<std::size_t>(layer), 1),
               .o = rows(o(layer), num_tokens, model_.num_qo_heads, model_.head_dim_vo),
               .params = params_,
               .mask_group = model_.mask_group_of(layer)};
  if (model_.sm_scale) {
    args.sm_scale = static_cast<float>(*model_.sm_scale);
  }
  return args;
}

}  // namespace fovea::serving
