#include "check/storage.h"

#include <fmt/format.h>

#include <algorithm>

#include "check/number.h"

namespace fovea::check {
namespace {

enum class Shape { separate, interleaved, halves, v_in_k };

/// The tensors of a cache and where an element is in them, worked out here rather than by the views the library makes of them.
struct Storage {
  Shape shape = Shape::separate;
  bool three_d = false;
  KvLayout layout = KvLayout::nhd;
  TensorView k, v;  // `k` holds both where the shape says so
  int head_dim_qk = 0;

  std::int64_t index(bool is_v, std::int64_t page, int slot, int head, int i) const {
    const TensorView& t = is_v && shape == Shape::separate ? v : k;
    std::int64_t at = page * t.stride(0);
    int axis = 1;
    if (shape == Shape::interleaved) {
      at += (is_v ? 1 : 0) * t.stride(axis++);
    }
    if (three_d) {
      at += head * t.stride(axis);
    } else if (layout == KvLayout::nhd) {
      at += slot * t.stride(axis) + head * t.stride(axis + 1);
    } else {
      at += head * t.stride(axis) + slot * t.stride(axis + 1);
    }
    return at + i + (is_v && shape == Shape::halves ? head_dim_qk : 0);
  }
  void* memory(bool is_v) const { return is_v && shape == Shape::separate ? v.data : k.data; }
};

std::vector<std::int64_t> axes(const Storage& s, std::int64_t pages, int page_size, int heads) {
  std::vector<std::int64_t> shape{pages};
  if (s.shape == Shape::interleaved) {
    shape.push_back(2);
  }
  if (s.three_d) {
    shape.push_back(heads);
  } else if (s.layout == KvLayout::nhd) {
    shape.insert(shape.end(), {page_size, heads});
  } else {
    shape.insert(shape.end(), {heads, page_size});
  }
  return shape;
}

Storage draw_storage(Case& c, Random& random, const KvFormat& format, std::int64_t pages) {
  const AttentionSpec& spec = c.spec;
  const bool one_dtype = spec.k_dtype == spec.v_dtype;
  std::vector<Shape> shapes{Shape::separate, Shape::separate};
  if (one_dtype) {
    shapes.push_back(Shape::halves);
    if (spec.head_dim_qk == spec.head_dim_vo && format.has_table) {
      shapes.push_back(Shape::interleaved);
    }
    if (spec.head_dim_vo <= spec.head_dim_qk) {
      shapes.push_back(Shape::v_in_k);
    }
  }
  Storage s{.shape = random.pick(shapes), .head_dim_qk = spec.head_dim_qk};
  s.three_d = !format.has_table || (format.page_size == 1 && s.shape != Shape::interleaved && random.percent(60));
  s.layout = random.percent(50) ? KvLayout::nhd : KvLayout::hnd;
  const int page_size = format.has_table ? format.page_size : 1;
  std::vector<std::int64_t> shape = axes(s, pages, page_size, spec.num_kv_heads);
  shape.push_back(spec.head_dim_qk + (s.shape == Shape::halves ? spec.head_dim_vo : 0));
  s.k = padded_tensor(c.memory, random, spec.k_dtype, shape);
  if (s.shape == Shape::separate) {
    shape.back() = spec.head_dim_vo;
    s.v = padded_tensor(c.memory, random, spec.v_dtype, shape);
  }
  static constexpr const char* kNames[] = {"separate", "interleaved", "halves", "v_in_k"};
  c.notes.push_back(fmt::format("{}{}", kNames[static_cast<int>(s.shape)],
                                s.three_d                   ? " 3d"
                                : s.layout == KvLayout::nhd ? " nhd"
                                                            : " hnd"));
  return s;
}

KvCache cache_of(const Storage& s, int head_dim_vo) {
  switch (s.shape) {
    case Shape::interleaved:
      return KvCache::interleaved(s.k, s.layout);
    case Shape::halves:
      return KvCache::halves(s.k, s.head_dim_qk, s.layout);
    case Shape::v_in_k:
      return KvCache::v_in_k(s.k, head_dim_vo, s.layout);
    case Shape::separate:
      break;
  }
  KvCache cache;
  cache.k = s.k;
  cache.v = s.v;
  cache.layout = s.layout;
  return cache;
}

/// Dequantisation scales of K or V as the case draws them, dense by (token, head).
struct Scales {
  Scale given;
  std::vector<float> dense;
};

Scales draw_scales(Case& c, Random& random, const Storage& s, const DensePool& pool, int page_size) {
  const int heads = c.spec.num_kv_heads;
  Scales scales{.given = {}, .dense = std::vector<float>(static_cast<std::size_t>(pool.num_tokens * heads), 1.0f)};
  const float base = static_cast<float>(random.uniform(0.02, 0.2));
  std::vector<float> by_head(static_cast<std::size_t>(heads), base);
  switch (c.spec.kv_quant) {
    case KvQuant::none:
      return scales;
    case KvQuant::tensor:
      scales.given = random.percent(50) ? Scale(base) : Scale(c.memory.floats({base}));
      break;
    case KvQuant::head:
      for (float& scale : by_head) {
        scale = base * static_cast<float>(random.uniform(0.5, 2.0));
      }
      scales.given = Scale(c.memory.floats(by_head));
      break;
    case KvQuant::token:
      break;
  }
  Storage per_token{.shape = Shape::separate, .three_d = s.three_d, .layout = s.layout};
  if (c.spec.kv_quant == KvQuant::token) {
    per_token.k = padded_tensor(c.memory, random, DType::f32, axes(per_token, pool.num_tokens / page_size, page_size, heads));
    scales.given = Scale(per_token.k);
  }
  for (std::int64_t token = 0; token < pool.num_tokens; ++token) {
    for (int head = 0; head < heads; ++head) {
      float& scale = scales.dense[static_cast<std::size_t>(token * heads + head)] = by_head[static_cast<std::size_t>(head)];
      if (c.spec.kv_quant == KvQuant::token && pool.used[static_cast<std::size_t>(token)] != 0) {
        scale *= static_cast<float>(random.uniform(0.5, 2.0));
        per_token.k.as<float>()[per_token.index(false, token / page_size, static_cast<int>(token % page_size), head, 0)] = scale;
      }
    }
  }
  return scales;
}

}  // namespace

TensorView padded_tensor(Memory& memory, Random& random, DType dtype, const std::vector<std::int64_t>& shape) {
  TensorView t;
  t.dtype = dtype;
  t.ndim = static_cast<std::int32_t>(shape.size());
  std::int64_t stride = 1, extent = 1;
  for (int axis = t.ndim - 1; axis >= 0; --axis) {
    const auto i = static_cast<std::size_t>(axis);
    t.shape[i] = shape[i];
    t.strides[i] = stride;
    extent += (std::max<std::int64_t>(shape[i], 1) - 1) * stride;
    stride *= std::max<std::int64_t>(shape[i], 1);
    // Never at the innermost axis, whose stride is 1; odd gaps make rows unaligned.
    stride += random.percent(15) ? random.pick({1, 3, 8, 64}) : 0;
  }
  t.data = memory.take(bytes_of(dtype, extent));
  return t;
}

KvCache store_pool(Case& c, Random& random, int pool_index, const KvFormat& format) {
  DensePool& pool = c.pools[static_cast<std::size_t>(pool_index)];
  const int page_size = format.has_table ? format.page_size : 1;
  const int heads = c.spec.num_kv_heads;
  const Storage s = draw_storage(c, random, format, pool.num_tokens / page_size);
  KvCache cache = cache_of(s, c.spec.head_dim_vo);
  const Scales k_scales = draw_scales(c, random, s, pool, page_size);
  const Scales v_scales = draw_scales(c, random, s, pool, page_size);
  cache.k_scale = k_scales.given;
  cache.v_scale = v_scales.given;
  const double k_spread = random.uniform(0.6, 2.0);

  const auto store = [&](bool is_v) {
    const int head_dim = is_v ? c.spec.head_dim_vo : c.spec.head_dim_qk;
    const DType dtype = is_v ? c.spec.v_dtype : c.spec.k_dtype;
    const bool already_written = is_v && s.shape == Shape::v_in_k;
    std::vector<double>& dense = is_v ? pool.v : pool.k;
    const std::vector<float>& scales = is_v ? v_scales.dense : k_scales.dense;
    dense.assign(static_cast<std::size_t>(pool.num_tokens * heads * head_dim), 0.0);
    for (std::int64_t token = 0; token < pool.num_tokens; ++token) {
      for (int head = 0; head < heads && pool.used[static_cast<std::size_t>(token)] != 0; ++head) {
        const double scale = scales[static_cast<std::size_t>(token * heads + head)];
        for (int i = 0; i < head_dim; ++i) {
          const std::int64_t at = s.index(is_v, token / page_size, static_cast<int>(token % page_size), head, i);
          if (!already_written) {
            // V has a mean of its own in every head, so that sums of many tokens do not vanish.
            const double target = is_v ? random.normal() + 0.5 * (head + 1) : random.normal() * k_spread;
            encode(dtype, s.memory(is_v), at, target / scale);
          }
          dense[static_cast<std::size_t>((token * heads + head) * head_dim + i)] = decode(dtype, s.memory(is_v), at) * scale;
        }
      }
    }
  };
  store(false);
  store(true);
  return cache;
}

}  // namespace fovea::check
