#include "tests/fuzz/problem.h"

#include <algorithm>
#include <cstring>

#include "check/check.h"

namespace fovea::fuzz {
namespace {

KvFormat make_format(Bytes& bytes) {
  KvFormat format;
  format.page_size = bytes.or_anything(bytes.pick({4, 1, 3, 16, 7, 64}));
  switch (bytes.below(8)) {
    case 5:
      format = KvFormat::ragged();
      break;
    case 6:
      format = KvFormat::block_sparse(bytes.between(1, 5), format.page_size);
      break;
    case 7:
      format.per_kv_head = true;
      break;
    default:
      break;
  }
  if (bytes.rarely()) {
    format = {.page_size = bytes.between(0, 4),
              .has_table = bytes.below(2) != 0,
              .by_index = bytes.below(2) != 0,
              .per_kv_head = bytes.below(2) != 0,
              .block_rows = bytes.between(0, 4)};
  }
  return format;
}

void make_spec(Bytes& bytes, Problem& p) {
  AttentionSpec& spec = p.spec;
  spec.num_kv_heads = bytes.or_anything(bytes.between(1, 3));
  spec.num_qo_heads = bytes.or_anything(std::clamp(spec.num_kv_heads, 1, 8) * bytes.between(1, 5));
  spec.head_dim_qk = bytes.or_anything(bytes.pick({16, 8, 1, 40, 64, 5}));
  spec.head_dim_vo = bytes.or_anything(bytes.pick({0, 16, 8, 3, 24}));
  spec.q_dtype = float_type(bytes, bytes.rarely());
  spec.k_dtype = float_type(bytes, true);
  spec.v_dtype = bytes.below(4) != 3 ? spec.k_dtype : float_type(bytes, true);
  spec.o_dtype = float_type(bytes, bytes.rarely());
  spec.kv_quant = bytes.pick({KvQuant::none, KvQuant::none, KvQuant::tensor, KvQuant::head, KvQuant::token});
  const std::vector<std::string>& variants = check::variant_names();
  spec.variant =
      bytes.rarely() ? Variant("no_such") : Variant(variants[static_cast<std::size_t>(bytes.below(static_cast<int>(variants.size())))]);
  spec.formats.clear();
  const int num_formats = bytes.rarely() ? 0 : bytes.pick({1, 1, 1, 2, 3});
  for (int i = 0; i < num_formats; ++i) {
    spec.formats.push_back(make_format(bytes));
  }
  // Sound limits are generous; buffers must stay small all the same.
  const auto limit = [&](std::int32_t value) { return bytes.rarely() ? bytes.between(0, 40) - 1 : value; };
  p.limits = {.max_requests = limit(8),
              .max_query_tokens = limit(64),
              .max_query_tokens_per_request = limit(0),
              .max_kv_tokens_per_request = limit(1024),
              .max_kv_tokens = limit(0),
              .max_row_groups = limit(64),
              .max_mask_groups = limit(2)};
  p.options.policy = bytes.pick({Policy::throughput, Policy::throughput, Policy::throughput, Policy::batch_invariant, Policy::fixed_split});
  p.options.fixed_split = p.options.policy == Policy::fixed_split ? 64 * bytes.between(1, 4) : bytes.rarely() ? 64 : 0;
  p.options.num_workers = bytes.rarely() ? -1 : bytes.between(0, 9);
  p.options.max_workspace_bytes = bytes.below(4) != 3 ? -1 : std::int64_t{bytes.byte()} << bytes.below(16);
}

/// A position, or a step between positions. ALiBi multiplies distances: beyond 2^24, where f32 leaves integers out, its answer is rounding.
std::int32_t bounded(const Problem& p, std::int32_t position, std::int32_t bound) {
  return p.spec.variant.name == "alibi" ? std::clamp(position, -bound, bound) : position;
}

TensorView positions(Bytes& bytes, Problem& p, std::int32_t count) {
  std::vector<std::int32_t> values = indices(bytes, count, 100);
  for (std::int32_t& value : values) {
    value = bounded(p, value, 1 << 20);
  }
  return p.memory.integers(values);
}

/// Tables of one format. `num_sets`: what its groups are counted by.
KvTables make_tables(Bytes& bytes, Problem& p, const KvFormat& format, int num_requests, std::int32_t num_query_tokens, int num_pages) {
  KvTables tables;
  int num_sets = num_requests;
  if (format.block_rows > 0) {
    num_sets = (num_query_tokens + format.block_rows - 1) / format.block_rows;
  } else if (bytes.below(6) == 5) {
    std::vector<std::int32_t> rows = indptr(bytes, bytes.between(1, 3), 0, std::max(1, num_query_tokens));
    num_sets = static_cast<int>(rows.size()) - 1;
    if (!bytes.rarely()) {
      rows.back() = num_query_tokens;  // no row beyond the batch
    }
    if (bytes.below(3) == 2) {
      tables.row_indices = p.memory.integers(indices(bytes, entries_for(bytes, rows.back()), num_query_tokens));
    }
    tables.row_indptr = p.memory.integers(rows);
  }
  int num_groups = format.per_kv_head ? num_sets * std::clamp(p.spec.num_kv_heads, 0, 8) : num_sets;
  num_groups = std::clamp(bytes.rarely() ? num_groups - 1 : num_groups, 0, 64);
  if (!format.has_table) {
    tables.page_indptr = p.memory.integers(indptr(bytes, num_groups, 0, 30));
    return tables;
  }
  const std::int32_t page_size = std::clamp(format.page_size, 1, 64);
  if (bytes.below(3) == 2) {
    const int width = bytes.between(1, 6);
    const int rows = num_groups + bytes.below(2);
    tables.page_table = p.memory.integers(indices(bytes, rows * width, num_pages));
    tables.page_table = TensorView::contiguous(tables.page_table.data, DType::i32, {rows, width});
    if (bytes.below(2) == 1) {
      tables.table_rows = p.memory.integers(indices(bytes, num_groups, rows));
    }
    std::vector<std::int32_t> lengths(static_cast<std::size_t>(num_groups));
    for (std::int32_t& length : lengths) {
      length = bytes.or_anything(bytes.below(width * page_size + 1));
    }
    tables.kv_len = p.memory.integers(lengths);
  } else {
    const std::vector<std::int32_t> pages = indptr(bytes, num_groups, 0, 6);
    tables.page_indptr = p.memory.integers(pages);
    tables.page_indices = p.memory.integers(indices(bytes, entries_for(bytes, pages.back()), num_pages));
    if (bytes.below(3) != 2) {
      std::vector<std::int32_t> last(static_cast<std::size_t>(num_groups));
      for (std::int32_t& length : last) {
        length = bytes.or_anything(bytes.between(1, page_size));
      }
      tables.last_page_len = p.memory.integers(last);
    }
  }
  if (bytes.below(5) == 4) {
    tables.kv_pos = positions(bytes, p, num_groups);
    tables.kv_pos_stride = bounded(p, bytes.or_anything(bytes.between(1, 3)), 1 << 10);
  }
  return tables;
}

Scale make_scale(Bytes& bytes, Problem& p, const TensorView& cache) {
  const auto tensor = [&](std::initializer_list<std::int64_t> shape) {
    TensorView view = TensorView::contiguous(nullptr, DType::f32, shape);
    view.data = p.memory.take(view.numel() * 4);
    fill(view, view.numel(), bytes.byte());
    return view;
  };
  const int heads = std::clamp(p.spec.num_kv_heads, 1, 8);
  switch (p.spec.kv_quant) {
    case KvQuant::tensor:
      return bytes.below(2) == 0 ? Scale(0.5f) : Scale(tensor({1}));
    case KvQuant::head:
      return tensor({bytes.rarely() ? heads + 1 : heads});
    case KvQuant::token:
      return cache.ndim == 4 ? tensor({cache.dim(0), cache.dim(1), cache.dim(2)}) : tensor({cache.dim(0), cache.dim(1)});
    default:
      return bytes.rarely() ? Scale(2.0f) : Scale();
  }
}

KvCache make_cache(Bytes& bytes, Problem& p, const KvFormat& format, int num_pages) {
  KvCache cache;
  cache.layout = bytes.below(2) == 0 ? KvLayout::nhd : KvLayout::hnd;
  const int heads = std::clamp(p.spec.num_kv_heads, 1, 8);
  const int page_size = std::clamp(format.page_size, 1, 64);
  const auto make = [&](DType dtype, int head_dim) {
    const int dim = std::clamp(bytes.rarely() ? head_dim + 1 : head_dim, 1, 80);
    const int pages = std::max(bytes.rarely() ? num_pages - 1 : num_pages, 1);
    TensorView view;
    if (!format.has_table || (page_size == 1 && bytes.below(2) == 1)) {
      view = TensorView::contiguous(nullptr, dtype, {pages, heads, dim});
    } else if (cache.layout == KvLayout::nhd) {
      view = TensorView::contiguous(nullptr, dtype, {pages, page_size, heads, dim});
    } else {
      view = TensorView::contiguous(nullptr, dtype, {pages, heads, page_size, dim});
    }
    view.data = p.memory.take(bytes_of(dtype, view.numel()));
    fill(view, view.numel(), bytes.byte());
    return view;
  };
  cache.k = make(p.spec.k_dtype, p.spec.head_dim_qk);
  cache.v = make(p.spec.v_dtype, p.spec.head_dim_vo == 0 ? p.spec.head_dim_qk : p.spec.head_dim_vo);
  cache.k_scale = make_scale(bytes, p, cache.k);
  cache.v_scale = make_scale(bytes, p, cache.v);
  return cache;
}

std::vector<Value> make_mask(Bytes& bytes, Problem& p, int num_requests) {
  std::vector<Value> values;
  if (p.spec.variant.name.find("sliding_window") != std::string::npos && !bytes.rarely()) {
    values.emplace_back("window_left", bytes.or_anything(bytes.below(40)));
    if (bytes.below(2) == 1) {
      values.emplace_back("num_sink_tokens", bytes.or_anything(bytes.below(8)));
    }
  }
  if (p.spec.variant.name == "chunked_local" && !bytes.rarely()) {
    values.emplace_back("chunk_size", bytes.or_anything(bytes.between(1, 40)));
  }
  if (p.spec.variant.name == "prefix_lm" && !bytes.rarely()) {
    values.emplace_back("prefix_len", p.memory.integers(indptr(bytes, num_requests, 0, 40)));
  }
  if (p.spec.variant.name.find("document") != std::string::npos) {
    values.emplace_back("document_ids", p.memory.integers(indptr(bytes, 40, 0, 2)));
    values.emplace_back("document_indptr", p.memory.integers(indptr(bytes, num_requests, 0, 40)));
  }
  if (p.spec.variant.name.find("custom_mask") != std::string::npos) {
    const std::int64_t count = bytes.between(0, 200);
    auto* bits = static_cast<std::uint8_t*>(p.memory.take(count));
    std::uint32_t state = bytes.byte();
    for (std::int64_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      bits[i] = static_cast<std::uint8_t>(state >> 24);
    }
    values.emplace_back("mask_bits", TensorView::contiguous(bits, DType::u8, {count}));
    values.emplace_back("mask_indptr", p.memory.integers(indptr(bytes, num_requests, 0, 40)));
  }
  return values;
}

void make_params(Bytes& bytes, Problem& p) {
  const std::string& name = p.spec.variant.name;
  if (name.find("soft_cap") != std::string::npos && !bytes.rarely()) {
    p.params.emplace_back("cap", static_cast<double>(bytes.between(1, 40)) / 4);
  }
  if (name.find("sink") != std::string::npos && !bytes.rarely()) {
    TensorView sink = TensorView::contiguous(nullptr, DType::f32, {std::clamp(p.spec.num_qo_heads, 1, 64)});
    sink.data = p.memory.take(sink.numel() * 4);
    fill(sink, sink.numel(), bytes.byte());
    p.params.emplace_back("sink", sink);
  }
  if (name == "alibi" && !bytes.rarely()) {
    TensorView slopes = TensorView::contiguous(nullptr, DType::f32, {std::clamp(p.spec.num_qo_heads, 1, 64)});
    slopes.data = p.memory.take(slopes.numel() * 4);
    fill(slopes, slopes.numel(), bytes.byte());
    p.params.emplace_back("slopes", slopes);
  }
  if (name.find("rope") != std::string::npos && bytes.below(2) == 1) {
    TensorView table = TensorView::contiguous(nullptr, DType::f32, {bytes.between(1, 20), 2 * bytes.between(1, 4)});
    table.data = p.memory.take(table.numel() * 4);
    fill(table, table.numel(), bytes.byte());
    p.params.emplace_back("cos_sin", table);
  }
  if (name == "temperature") {
    p.params.emplace_back("temperature", static_cast<double>(bytes.between(1, 40)) / 8);
    p.params.emplace_back("position_step", bytes.or_anything(bytes.between(1, 40)));
  }
  if (name.find("sigmoid") != std::string::npos && bytes.below(2) == 1) {
    p.params.emplace_back("bias", -1.5);
  }
  if (bytes.rarely()) {
    p.params.emplace_back("no_such", 1);
  }
}

}  // namespace

std::string Problem::text() const {
  return spec.to_string() + "\n" + limits.to_string() + "\npolicy " + std::to_string(static_cast<int>(options.policy)) + ", workers " +
         std::to_string(options.num_workers) + ", workspace " + std::to_string(options.max_workspace_bytes);
}

Problem make_problem(Bytes& bytes) {
  Problem p;
  make_spec(bytes, p);
  const int num_requests = bytes.between(1, 6) % 6;
  const std::vector<std::int32_t> rows = indptr(bytes, num_requests, 0, bytes.below(4) == 3 ? 12 : 2);
  const std::int32_t num_query_tokens = std::clamp(rows.back(), 0, 64);
  p.batch.qo_indptr = p.memory.integers(rows);
  p.num_pages.reserve(p.spec.formats.size());
  for (const KvFormat& format : p.spec.formats) {
    const int num_pages = format.has_table ? bytes.between(1, 12) : 200;
    p.tables.push_back(make_tables(bytes, p, format, num_requests, num_query_tokens, num_pages));
    p.caches.push_back(make_cache(bytes, p, format, num_pages));
    p.num_pages.push_back(std::min(p.caches.back().k.dim(0), p.caches.back().v.dim(0)));
  }
  if (bytes.rarely() && !p.tables.empty()) {
    p.tables.pop_back();
  }
  p.batch.kv = p.tables;
  if (bytes.below(4) == 3) {
    p.batch.kv_len = p.memory.integers(indices(bytes, num_requests, 100));
  }
  if (bytes.below(4) == 3) {
    p.batch.q_pos = positions(bytes, p, num_requests);
  }
  const int num_masks = bytes.below(4) == 3 ? 2 : 1;
  for (int m = 0; m < num_masks; ++m) {
    p.mask_values.push_back(make_mask(bytes, p, num_requests));
  }
  for (const std::vector<Value>& values : p.mask_values) {
    p.masks.push_back({.values = values});
  }
  make_params(bytes, p);

  const int heads = std::clamp(p.spec.num_qo_heads, 1, 64);
  p.num_o_tokens = std::max(bytes.rarely() ? num_query_tokens - 1 : num_query_tokens + bytes.below(2), 0);
  p.run.q = TensorView::contiguous(nullptr, p.spec.q_dtype, {p.num_o_tokens, heads, std::clamp(p.spec.head_dim_qk, 1, 80)});
  p.run.q.data = p.memory.take(bytes_of(p.spec.q_dtype, p.run.q.numel()));
  fill(p.run.q, p.run.q.numel(), bytes.byte());
  p.run.kv = p.caches;
  p.run.params = p.params;
  p.run.output = bytes.below(4) == 3 ? Output::states : Output::finalised;
  p.run.lse_base2 = bytes.below(4) == 3;
  p.run.lse_with_extra = bytes.below(4) == 3;
  p.run.mask_group = bytes.or_anything(num_masks - 1);
  p.with_lse = bytes.below(4) != 3;
  return p;
}

Outputs new_outputs(Problem& p) {
  const int heads = std::clamp(p.spec.num_qo_heads, 1, 64);
  const int head_dim = std::clamp(p.spec.head_dim_vo == 0 ? p.spec.head_dim_qk : p.spec.head_dim_vo, 1, 80);
  Outputs out;
  out.o = TensorView::contiguous(nullptr, p.spec.o_dtype, {p.num_o_tokens, heads, head_dim});
  const std::int64_t o_bytes = bytes_of(p.spec.o_dtype, out.o.numel());
  out.o.data = std::memset(p.memory.take(o_bytes), kUntouched, static_cast<std::size_t>(o_bytes));
  if (p.with_lse) {
    out.lse = TensorView::contiguous(nullptr, DType::f32, {p.num_o_tokens, heads});
    out.lse.data = std::memset(p.memory.take(out.lse.numel() * 4), kUntouched, static_cast<std::size_t>(out.lse.numel() * 4));
  }
  return out;
}

}  // namespace fovea::fuzz
