#include "serving/layer_spec.h"

#include "serving/mix.h"

namespace fovea::serving {
namespace {

constexpr std::int32_t kUnlimited = 1 << 29;  // a window no request fills; positions minus it stay in 32 bits

std::int32_t shrunk(std::int32_t window, std::int32_t shrink) { return window == 0 ? 0 : (window + shrink - 1) / shrink; }

}  // namespace

AttentionSpec LayerSpec::spec(std::int32_t num_qo_heads, std::int32_t num_kv_heads, std::int32_t page_size) const {
  return {.num_qo_heads = num_qo_heads,
          .num_kv_heads = num_kv_heads,
          .head_dim_qk = model.head_dim_qk,
          .head_dim_vo = model.head_dim_vo,
          .k_dtype = kv_dtype,
          .v_dtype = kv_dtype,
          .kv_quant = kv_quant(),
          .variant = Variant(model.variant()),
          .formats = {KvFormat::paged(page_size)}};
}

float LayerSpec::kv_scale() const { return kv_quant() == KvQuant::none ? 1.0f : 0x1p-6f; }

std::int32_t LayerSpec::window_of(std::int32_t layer) const { return shrunk(model.window_of(layer), shrink); }

std::vector<std::int32_t> LayerSpec::windows() const {
  std::vector<std::int32_t> windows;
  for (const std::int32_t window : model.mask_groups()) {
    windows.push_back(shrunk(window, shrink));
  }
  return windows;
}

std::vector<Value> LayerSpec::mask_values(std::int32_t window) const {
  if (!model.variant().starts_with("sliding_window")) {
    return {};
  }
  return {Value("window_left", window == 0 ? kUnlimited : window - 1)};
}

std::vector<float> LayerSpec::sinks() const {
  std::vector<float> sinks;
  for (std::int32_t head = 0; model.sink && head < model.num_qo_heads; ++head) {
    sinks.push_back(static_cast<float>(mix(seed, static_cast<std::uint64_t>(head)) >> 40) * 0x1p-22f - 2.0f);  // in [-2, 2)
  }
  return sinks;
}

}  // namespace fovea::serving
