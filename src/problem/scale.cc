// A cache's tensors and scales.
#include "src/problem/scale.h"

#include <cmath>

#include "src/describe.h"

namespace fovea {
namespace {

/// Axes of a cache tensor or of its per-token scales, which lack the last; slot -1: a 3-D cache.
struct CacheAxes {
  int page, slot, head;
};

CacheAxes axes_of(const TensorView& cache, KvLayout layout) {
  if (cache.ndim == 3) {
    return {0, -1, 1};
  }
  return layout == KvLayout::nhd ? CacheAxes{0, 1, 2} : CacheAxes{0, 2, 1};
}

/// Axes of extent 1 may have any stride, so the view's is set to 0 there.
std::int64_t stride_of(const TensorView& tensor, int axis) { return axis < 0 || tensor.dim(axis) <= 1 ? 0 : tensor.stride(axis); }

void check_token_scale(const CacheRule& rule, const Argument& name, const TensorView& scale, const TensorView& cache, KvLayout layout,
                       ScaleView& view) {
  check_tensor(name, scale, cache.ndim - 1, "the cache's axes without the last", rule.device);
  for (int axis = 0; axis + 1 < cache.ndim; ++axis) {
    FOVEA_CHECK(scale.dim(axis) == cache.dim(axis),
                "{}: {} has extent {} in axis {} but the cache has {}; a scale per token is shaped like the cache without its last axis",
                rule.where, name, scale.dim(axis), axis, cache.dim(axis));
  }
  const CacheAxes axes = axes_of(cache, layout);
  view.page_stride = stride_of(scale, axes.page);
  view.token_stride = stride_of(scale, axes.slot);
  view.head_stride = stride_of(scale, axes.head);
  view.per_token = 1;
}

}  // namespace

std::int64_t page_size_of(const TensorView& cache, KvLayout layout) {
  const int axis = axes_of(cache, layout).slot;
  return axis < 0 ? 1 : cache.dim(axis);
}

void check_cache_tensor(const CacheRule& rule, const Argument& name, const TensorView& tensor, KvLayout layout, std::int32_t head_dim,
                        CacheView& view) {
  FOVEA_CHECK(tensor.ndim != 3 || rule.page_size <= 1,
              "{}: {} has 3 axes, which is page size 1, but the format has page_size {}; give 4 axes", rule.where, name, rule.page_size);
  check_tensor(name, tensor, tensor.ndim == 3 ? 3 : 4,
               "[pages, page_size, heads, head_dim], heads before page_size, or [slots, heads, head_dim]", rule.device);
  check_innermost(name, tensor);
  FOVEA_CHECK(layout <= KvLayout::hnd, "{}: the layout of {} is number {}; it is nhd or hnd", rule.where, name, static_cast<int>(layout));
  const CacheAxes axes = axes_of(tensor, layout);
  FOVEA_CHECK(tensor.dim(axes.head) == rule.num_kv_heads, "{}: {} has {} heads in axis {}; it needs num_kv_heads = {}", rule.where, name,
              tensor.dim(axes.head), axes.head, rule.num_kv_heads);
  FOVEA_CHECK(tensor.dim(tensor.ndim - 1) == head_dim, "{}: {} has head_dim {} but it needs {}", rule.where, name,
              tensor.dim(tensor.ndim - 1), head_dim);
  FOVEA_CHECK(rule.page_size == 0 || page_size_of(tensor, layout) == rule.page_size,
              "{}: {} has {} tokens a page in axis {} but the format has page_size {}", rule.where, name, page_size_of(tensor, layout),
              axes.slot, rule.page_size);
  view.data = tensor.data;
  view.dtype = tensor.dtype;
  view.page_stride = stride_of(tensor, axes.page);
  view.token_stride = stride_of(tensor, axes.slot);
  view.head_stride = stride_of(tensor, axes.head);
}

void check_scale(const CacheRule& rule, const Argument& name, const Scale& scale, const TensorView& cache, KvLayout layout,
                 ScaleView& view) {
  view = ScaleView{.number = 1.0f};
  const bool given = scale.tensor.defined();
  if (!given) {
    FOVEA_CHECK(std::isfinite(scale.number), "{}: {} = {}; it must be finite", rule.where, name, scale.number);
    FOVEA_CHECK(rule.quant != KvQuant::none || scale.number == 1.0f,
                "{}: {} = {} but kv_quant is none; scales need KvQuant::tensor, head or token", rule.where, name, scale.number);
    FOVEA_CHECK(rule.quant != KvQuant::head && rule.quant != KvQuant::token,
                "{}: {} is a number but kv_quant is {}; it needs an f32 tensor", rule.where, name, name_of(rule.quant));
    view.number = scale.number;
    return;
  }
  FOVEA_CHECK(rule.quant != KvQuant::none, "{}: {} is given but kv_quant is none; scales need KvQuant::tensor, head or token", rule.where,
              name);
  check_dtype(name, scale.tensor, DType::f32);
  view.data = scale.tensor.as<const float>();
  if (rule.quant == KvQuant::token) {
    check_token_scale(rule, name, scale.tensor, cache, layout, view);
    return;
  }
  const std::int64_t count = rule.quant == KvQuant::head ? rule.num_kv_heads : 1;
  check_tensor(name, scale.tensor, 1, rule.quant == KvQuant::head ? "[num_kv_heads]" : "[1]", rule.device);
  FOVEA_CHECK(scale.tensor.dim(0) == count, "{}: {} has {} entries but kv_quant {} needs {}", rule.where, name, scale.tensor.dim(0),
              name_of(rule.quant), count);
  view.head_stride = stride_of(scale.tensor, 0);
}

}  // namespace fovea
