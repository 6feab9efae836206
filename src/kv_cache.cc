// KvCache from tensors that hold K and V together.
#include "fovea/kv_cache.h"

#include "src/support/check.h"

namespace fovea {

KvCache KvCache::interleaved(const TensorView& kv, KvLayout layout) {
  FOVEA_CHECK(kv.ndim == 5,
              "KvCache::interleaved: kv has {} axes; it needs 5: [pages, 2, page_size, heads, head_dim], or heads before page_size",
              kv.ndim);
  FOVEA_CHECK(kv.dim(1) == 2, "KvCache::interleaved: axis 1 of kv has extent {}; it needs 2, K and V", kv.dim(1));
  KvCache cache;
  cache.k = kv.select(1, 0);
  cache.v = kv.select(1, 1);
  cache.layout = layout;
  return cache;
}

KvCache KvCache::halves(const TensorView& kv, std::int64_t head_dim_qk, KvLayout layout) {
  FOVEA_CHECK(kv.ndim == 3 || kv.ndim == 4, "KvCache::halves: kv has {} axes; a cache has 3 or 4", kv.ndim);
  const int last = kv.ndim - 1;
  FOVEA_CHECK(0 < head_dim_qk && head_dim_qk < kv.dim(last),
              "KvCache::halves: head_dim_qk {} does not cut the last axis of kv, extent {}, in two", head_dim_qk, kv.dim(last));
  KvCache cache;
  cache.k = kv.slice(last, 0, head_dim_qk);
  cache.v = kv.slice(last, head_dim_qk, kv.dim(last));
  cache.layout = layout;
  return cache;
}

KvCache KvCache::v_in_k(const TensorView& k, std::int64_t head_dim_vo, KvLayout layout) {
  FOVEA_CHECK(k.ndim == 3 || k.ndim == 4, "KvCache::v_in_k: k has {} axes; a cache has 3 or 4", k.ndim);
  const int last = k.ndim - 1;
  FOVEA_CHECK(0 < head_dim_vo && head_dim_vo <= k.dim(last), "KvCache::v_in_k: head_dim_vo {} is not within the last axis of k, extent {}",
              head_dim_vo, k.dim(last));
  KvCache cache;
  cache.k = k;
  cache.v = k.slice(last, 0, head_dim_vo);
  cache.layout = layout;
  return cache;
}

}  // namespace fovea
