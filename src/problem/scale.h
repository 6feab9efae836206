// A cache's tensors and scales, checked and as kernels see them: what run() and append_kv() have in common.
#pragma once

#include "portable/params.h"
#include "src/problem/problem.h"
#include "src/problem/tensor_check.h"

namespace fovea {

/// What a cache must be like.
struct CacheRule {
  std::string_view where;
  std::int32_t num_kv_heads;
  std::int32_t page_size;  // 0: whatever the cache has
  KvQuant quant;
  Device device;
};

/// k or v of a cache. Writes everything but `scale`.
void check_cache_tensor(const CacheRule& rule, const Argument& name, const TensorView& tensor, KvLayout layout, std::int32_t head_dim,
                        CacheView& view);

/// Its scale. `cache` is the tensor the scale belongs to.
void check_scale(const CacheRule& rule, const Argument& name, const Scale& scale, const TensorView& cache, KvLayout layout,
                 ScaleView& view);

/// Tokens in a page of a cache tensor that check_cache_tensor has passed.
std::int64_t page_size_of(const TensorView& cache, KvLayout layout);

}  // namespace fovea
