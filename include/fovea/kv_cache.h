// KvCache: the tensors of one layer's K and V, whatever their layout.
#pragma once

#include <cstdint>

#include "fovea/tensor.h"

namespace fovea {

/// Order of the axes of a 4-D cache. A 3-D cache [slots, num_kv_heads, head_dim] has page size 1 (or is ragged) and reads the same in both.
enum class KvLayout : std::uint8_t {
  nhd,  // [pages, page_size, num_kv_heads, head_dim]
  hnd,  // [pages, num_kv_heads, page_size, head_dim]
};

/// A dequantisation scale: a number known on the host, or an f32 tensor (see KvQuant for its shape).
struct Scale {
  float number = 1.0f;
  TensorView tensor;  // used when defined

  Scale() = default;
  Scale(float number) : number(number) {}              // NOLINT: implicit on purpose
  Scale(const TensorView& tensor) : tensor(tensor) {}  // NOLINT
};

/// K and V of one format in one layer. Any strides with innermost 1; K and V are independent views and may lie in one allocation.
/// Unused slots may hold anything, NaN included: they are never part of a result.
struct KvCache {
  TensorView k;  // [..., head_dim_qk]
  TensorView v;  // [..., head_dim_vo]
  KvLayout layout = KvLayout::nhd;
  Scale k_scale;
  Scale v_scale;

  /// [pages, 2, page_size, heads, dim] (nhd) or [pages, 2, heads, page_size, dim] (hnd): K and V alternate page by page.
  static KvCache interleaved(const TensorView& kv, KvLayout layout = KvLayout::nhd);
  /// K and V are the two halves of one axis of `kv`; head_dim_qk says where the last axis is cut (vLLM: [pages, page_size, heads, 2 *
  /// dim]).
  static KvCache halves(const TensorView& kv, std::int64_t head_dim_qk, KvLayout layout = KvLayout::nhd);
  /// V is the first head_dim_vo columns of K, as in multi-head latent attention.
  static KvCache v_in_k(const TensorView& k, std::int64_t head_dim_vo, KvLayout layout = KvLayout::nhd);
};

}  // namespace fovea
