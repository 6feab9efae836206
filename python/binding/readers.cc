#include "python/binding/readers.h"

#include <array>
#include <utility>

namespace fovea::python {

namespace {

template <class Enum, std::size_t N>
Enum named(Arguments& from, const char* name, const std::array<std::pair<const char*, Enum>, N>& all) {
  const std::string text = from.text(name);
  std::string known;
  for (const auto& [of_value, value] : all) {
    if (text == of_value) {
      return value;
    }
    known += (known.empty() ? "" : ", ") + std::string(of_value);
  }
  raise("ValueError", std::string(from.where()) + ": " + name + " '" + text + "' is none of " + known);
}

DType dtype_from(Arguments& from, const char* name) {
  static const auto all = [] {
    std::array<std::pair<const char*, DType>, kNumDTypes> rows;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      rows[i] = {kDTypeTable[i].name, static_cast<DType>(i)};
    }
    return rows;
  }();
  return named(from, name, all);
}

Variant variant_from(Arguments& from) {
  Variant variant(from.text("variant"));
  const std::int64_t num_sources = from.integer("sources");
  for (std::int64_t i = 0; i < num_sources; ++i) {
    VariantSource& source = variant.sources.emplace_back();
    source.name = from.text("name");
    source.text = from.text("text");
    source.file = from.text("file");
  }
  return variant;
}

}  // namespace

KvQuant quant_from(Arguments& from) {
  return named(from, "kv_quant",
               std::array<std::pair<const char*, KvQuant>, 4>{
                   {{"none", KvQuant::none}, {"tensor", KvQuant::tensor}, {"head", KvQuant::head}, {"token", KvQuant::token}}});
}

AttentionSpec spec_from(Arguments& from) {
  AttentionSpec spec;
  spec.num_qo_heads = from.integer32("num_qo_heads");
  spec.num_kv_heads = from.integer32("num_kv_heads");
  spec.head_dim_qk = from.integer32("head_dim_qk");
  spec.head_dim_vo = from.integer32("head_dim_vo");
  spec.q_dtype = dtype_from(from, "q_dtype");
  spec.k_dtype = dtype_from(from, "k_dtype");
  spec.v_dtype = dtype_from(from, "v_dtype");
  spec.o_dtype = dtype_from(from, "o_dtype");
  spec.kv_quant = quant_from(from);
  spec.variant = variant_from(from);
  spec.formats.resize(static_cast<std::size_t>(from.integer("formats")));
  for (KvFormat& format : spec.formats) {
    format.page_size = from.integer32("page_size");
    format.has_table = from.integer("has_table") != 0;
    format.by_index = from.integer("by_index") != 0;
    format.per_kv_head = from.integer("per_kv_head") != 0;
    format.block_rows = from.integer32("block_rows");
  }
  return spec;
}

Limits limits_from(Arguments& from) {
  Limits limits;
  limits.max_requests = from.integer32("max_requests");
  limits.max_query_tokens = from.integer32("max_query_tokens");
  limits.max_query_tokens_per_request = from.integer32("max_query_tokens_per_request");
  limits.max_kv_tokens_per_request = from.integer32("max_kv_tokens_per_request");
  limits.max_kv_tokens = from.integer("max_kv_tokens");
  limits.max_row_groups = from.integer32("max_row_groups");
  limits.max_mask_groups = from.integer32("max_mask_groups");
  return limits;
}

PrepareOptions prepare_options_from(Arguments& from) {
  PrepareOptions options;
  options.policy =
      named(from, "policy",
            std::array<std::pair<const char*, Policy>, 3>{
                {{"throughput", Policy::throughput}, {"batch_invariant", Policy::batch_invariant}, {"fixed_split", Policy::fixed_split}}});
  options.fixed_split = from.integer32("fixed_split");
  options.num_workers = from.integer32("num_workers");
  options.max_workspace_bytes = from.integer("max_workspace_bytes");
  return options;
}

KvTables tables_from(Arguments& from) {
  KvTables tables;
  tables.page_indptr = from.optional_lengths("page_indptr");
  tables.page_indices = from.optional_tensor("page_indices");
  tables.page_table = from.optional_tensor("page_table");
  tables.table_rows = from.optional_lengths("table_rows");
  tables.last_page_len = from.optional_lengths("last_page_len");
  tables.kv_len = from.optional_lengths("kv_len of a format");
  tables.ragged_tokens = from.integer("ragged_tokens");
  tables.row_indptr = from.optional_lengths("row_indptr");
  tables.row_indices = from.optional_lengths("row_indices");
  tables.kv_pos = from.optional_lengths("kv_pos");
  tables.kv_pos_stride = from.integer32("kv_pos_stride");
  return tables;
}

KvCache cache_from(Arguments& from) {
  KvCache cache;
  cache.k = from.tensor("k");
  cache.v = from.tensor("v");
  cache.layout = from.integer("layout") == 0 ? KvLayout::nhd : KvLayout::hnd;
  cache.k_scale = from.scale("k_scale");
  cache.v_scale = from.scale("v_scale");
  return cache;
}

TileClasses tiles_from(Arguments& from) {
  if (from.is_none()) {
    return {};
  }
  TileClasses tiles;
  tiles.classes = from.tensor("classes of tiles");
  tiles.class_indptr = from.tensor("class_indptr of tiles");
  tiles.tile_q = from.integer32("tile_q");
  tiles.tile_kv = from.integer32("tile_kv");
  tiles.per_head = from.integer("per_head") != 0;
  return tiles;
}

void values_from(Arguments& from, std::int64_t count, std::vector<Value>& values) {
  values.clear();
  while (count < 0 ? !from.done() : count-- > 0) {
    const std::string_view name = from.name();
    values.push_back(from.value(name));
  }
}

}  // namespace fovea::python
