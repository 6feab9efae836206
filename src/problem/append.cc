// check_append: new tokens and where they go. Reads the page ids of new tokens, so that nothing is written outside the cache; where the
// host can't read them, the backend leaves out what lies outside.
#include <cmath>

#include "src/describe.h"
#include "src/problem/problem.h"
#include "src/problem/scale.h"
#include "src/problem/tensor_check.h"

namespace fovea {
namespace {

bool host_reads(Device device) { return device.type == DeviceType::cpu; }

Argument argument(std::string_view field) { return {"append_kv", "", -1, field}; }
Argument argument(std::string_view owner, std::string_view field) { return {"append_kv", owner, -1, field}; }

void check_new_tokens(const AppendArgs& args, Device device, AppendParams& params) {
  for (const auto& [name, tensor] : {std::pair{argument("k"), &args.k}, std::pair{argument("v"), &args.v}}) {
    check_tensor(name, *tensor, 3, "[tokens, num_kv_heads, head_dim]", device);
    check_wide_dtype(name, *tensor);
    check_innermost(name, *tensor);
  }
  FOVEA_CHECK(args.k.dim(0) == args.v.dim(0), "append_kv: k has {} tokens but v has {}", args.k.dim(0), args.v.dim(0));
  FOVEA_CHECK(args.k.dim(1) == args.v.dim(1), "append_kv: k has {} heads but v has {}", args.k.dim(1), args.v.dim(1));
  FOVEA_CHECK(args.k.dim(0) < 1 << 29, "append_kv: k has {} tokens; at most {}", args.k.dim(0), (1 << 29) - 1);
  FOVEA_CHECK(args.k.dim(1) <= 32768 && args.k.dim(2) <= kMaxHeadDim && args.v.dim(2) <= kMaxHeadDim,
              "append_kv: {} heads of head_dim {} and {}; at most 32768 of 1024", args.k.dim(1), args.k.dim(2), args.v.dim(2));
  params.num_tokens = static_cast<std::int32_t>(args.k.dim(0));
  params.num_kv_heads = static_cast<std::int32_t>(args.k.dim(1));
  params.head_dim_qk = static_cast<std::int32_t>(args.k.dim(2));
  params.head_dim_vo = static_cast<std::int32_t>(args.v.dim(2));
  params.k = {.data = args.k.data, .token_stride = args.k.stride(0), .head_stride = args.k.stride(1), .dtype = args.k.dtype};
  params.v = {.data = args.v.data, .token_stride = args.v.stride(0), .head_stride = args.v.stride(1), .dtype = args.v.dtype};
}

/// A stored value is value / scale: no scale known on the host may be 0.
void check_host_scale(const AppendArgs& args, const Argument& name, const Scale& scale) {
  FOVEA_CHECK(args.kv_quant != KvQuant::tensor || scale.tensor.defined() || scale.number != 0.0f,
              "append_kv: {} = 0; new values are divided by it", name);
}

/// Scales per token are written. (They may stand between the cache's rows in one allocation: only what can't be right is refused.)
void check_written_scales(const AppendArgs& args) {
  const KvCache& cache = args.cache;
  const Argument k_scale = argument("cache", "k_scale"), v_scale = argument("cache", "v_scale");
  for (const auto& [name, tensor] : {std::pair{k_scale, &cache.k_scale.tensor}, std::pair{v_scale, &cache.v_scale.tensor}}) {
    check_writable(name, *tensor);
  }
  FOVEA_CHECK(!same_view(cache.k_scale.tensor, cache.v_scale.tensor),
              "append_kv: cache.k_scale and cache.v_scale are the same memory; K and V have scales of their own");
}

void check_cache(const AppendArgs& args, Device device, AppendParams& params) {
  FOVEA_CHECK(args.kv_quant <= KvQuant::token, "append_kv: kv_quant is number {}; it is none, tensor, head or token",
              static_cast<int>(args.kv_quant));
  const KvCache& cache = args.cache;
  const CacheRule rule{"append_kv", params.num_kv_heads, 0, args.kv_quant, device};
  const Argument k = argument("cache", "k"), v = argument("cache", "v");
  check_cache_tensor(rule, k, cache.k, cache.layout, params.head_dim_qk, params.cache.k);
  check_cache_tensor(rule, v, cache.v, cache.layout, params.head_dim_vo, params.cache.v);
  for (const auto& [name, tensor] : {std::pair{k, &cache.k}, std::pair{v, &cache.v}}) {
    FOVEA_CHECK(is_float(tensor->dtype), "append_kv: {} has dtype {}; a cache is f32, f16, bf16, e4m3 or e5m2", name,
                name_of(tensor->dtype));
    check_writable(name, *tensor);
  }
  const std::int64_t page_size = page_size_of(cache.k, cache.layout);
  FOVEA_CHECK(cache.k.dim(0) == cache.v.dim(0) && page_size == page_size_of(cache.v, cache.layout),
              "append_kv: cache.k has {} pages of {} tokens but cache.v has {} of {}", cache.k.dim(0), page_size, cache.v.dim(0),
              page_size_of(cache.v, cache.layout));
  FOVEA_CHECK(1 <= page_size && page_size < 1 << 29, "append_kv: cache.k has {} tokens a page; it must be 1 to {}", page_size,
              (1 << 29) - 1);
  check_scale(rule, argument("cache", "k_scale"), cache.k_scale, cache.k, cache.layout, params.cache.k.scale);
  check_scale(rule, argument("cache", "v_scale"), cache.v_scale, cache.v, cache.layout, params.cache.v.scale);
  check_host_scale(args, argument("cache", "k_scale"), cache.k_scale);
  check_host_scale(args, argument("cache", "v_scale"), cache.v_scale);
  FOVEA_CHECK(args.kv_quant == KvQuant::none || row_of(cache.k.dtype).bits <= 8 || row_of(cache.v.dtype).bits <= 8,
              "append_kv: kv_quant is {} but cache.k is {} and cache.v is {}; scales go with an 8-bit cache", name_of(args.kv_quant),
              name_of(cache.k.dtype), name_of(cache.v.dtype));
  if (args.kv_quant == KvQuant::token) {
    check_written_scales(args);
  }
  params.cache.page_size = static_cast<std::int32_t>(page_size);
  params.num_pages = cache.k.dim(0);
  params.quant = args.kv_quant;
}

void check_slots(const AppendArgs& args, Device device, AppendParams& params) {
  const Argument name = argument("slot_mapping");
  const TensorView& slots = args.slot_mapping;
  FOVEA_CHECK(slots.dtype == DType::i32 || slots.dtype == DType::i64, "append_kv: slot_mapping has dtype {}; it may be i32 or i64",
              name_of(slots.dtype));
  check_vector(name, slots, slots.dtype, params.num_tokens, device);
  const std::int64_t num_slots = args.cache.k.dim(0) * params.cache.page_size;
  params.slots = slots.data;
  params.slots_64 = slots.dtype == DType::i64;
  for (std::int32_t t = 0; host_reads(device) && t < params.num_tokens; ++t) {
    const std::int64_t slot = params.slots_64 ? slots.as<const std::int64_t>()[t] : slots.as<const std::int32_t>()[t];
    FOVEA_CHECK(slot < num_slots, "append_kv: slot_mapping[{}] = {}; the cache has {} slots", t, slot, num_slots);
  }
}

void check_tables(const AppendArgs& args, Device device, AppendParams& params) {
  const KvTables& t = args.tables;
  const std::int64_t n = params.num_requests;
  FormatView& f = params.tables;
  FOVEA_CHECK(!t.row_indptr.defined() && !t.row_indices.defined() && !t.kv_pos.defined() && t.kv_pos_stride == 1,
              "append_kv: tables has row_indptr, row_indices, kv_pos or kv_pos_stride; appending has no use for them");
  const bool csr = t.page_indptr.defined() && t.page_indices.defined();
  FOVEA_CHECK(csr != t.page_table.defined(), "append_kv: tables needs either page_indptr and page_indices, or page_table");
  FOVEA_CHECK(!t.table_rows.defined() || !csr, "append_kv: tables.table_rows goes with tables.page_table");
  FOVEA_CHECK(csr || (t.kv_len.defined() && !t.last_page_len.defined()),
              "append_kv: tables.page_table needs tables.kv_len, and no last_page_len");
  FOVEA_CHECK(!t.last_page_len.defined() || !t.kv_len.defined(), "append_kv: tables has both last_page_len and kv_len; give one");
  f.page_size = params.cache.page_size;
  f.kv_pos_stride = 1;
  f.num_row_sets = params.num_requests;
  f.heads_per_set = 1;
  f.has_table = 1;
  f.first_row_ref = -1;
  if (csr) {
    check_vector(argument("tables", "page_indptr"), t.page_indptr, DType::i32, n + 1, device);
    f.page_indptr = t.page_indptr.as<const std::int32_t>();
    check_any_vector(argument("tables", "page_indices"), t.page_indices, DType::i32, device);
    if (host_reads(device)) {
      check_indptr(argument("tables", "page_indptr"), f.page_indptr, params.num_requests);
      FOVEA_CHECK(t.page_indices.dim(0) >= f.page_indptr[n],
                  "append_kv: tables.page_indices has {} entries but tables.page_indptr ends at {}", t.page_indices.dim(0),
                  f.page_indptr[n]);
    }
    params.table = t.page_indices.as<const std::int32_t>();
  } else {
    check_tensor(argument("tables", "page_table"), t.page_table, 2, "[rows, width]", device);
    check_dtype(argument("tables", "page_table"), t.page_table, DType::i32);
    check_innermost(argument("tables", "page_table"), t.page_table);
    f.table_row_stride = t.page_table.dim(0) <= 1 ? t.page_table.dim(1) : t.page_table.stride(0);
    FOVEA_CHECK(f.table_row_stride >= 0, "append_kv: tables.page_table has row stride {}; it must not be negative", f.table_row_stride);
    params.table = t.page_table.as<const std::int32_t>();
  }
  for (const auto& [field, tensor, to] :
       {std::tuple{"last_page_len", &t.last_page_len, &f.last_page_len}, std::tuple{"kv_len", &t.kv_len, &f.kv_len},
        std::tuple{"table_rows", &t.table_rows, &f.table_rows}}) {
    if (tensor->defined()) {
      check_vector(argument("tables", field), *tensor, DType::i32, n, device);
      *to = tensor->as<const std::int32_t>();
    }
  }
}

/// Request r: its length, room in its table, and the ids of the pages that its new tokens go to.
void check_request(const AppendArgs& args, const AppendParams& params, std::int32_t r) {
  const FormatView& f = params.tables;
  const std::int64_t row = f.table_rows != nullptr ? f.table_rows[r] : r;
  const std::int64_t rows = args.tables.page_table.dim(0);
  FOVEA_CHECK(f.page_indptr != nullptr || (0 <= row && row < rows), "append_kv: request {} has row {} of tables.page_table, which has {}",
              r, row, rows);
  const std::int64_t entries = f.page_indptr != nullptr ? f.page_indptr[r + 1] - f.page_indptr[r] : args.tables.page_table.dim(1);
  FOVEA_CHECK(f.last_page_len == nullptr || entries == 0 || (1 <= f.last_page_len[r] && f.last_page_len[r] <= f.page_size),
              "append_kv: tables.last_page_len[{}] = {}; it must be 1 to {}", r, f.last_page_len[r], f.page_size);
  const std::int64_t full = entries * f.page_size;
  const std::int64_t tokens = f.kv_len != nullptr                         ? f.kv_len[r]
                              : f.last_page_len != nullptr && entries > 0 ? full - f.page_size + f.last_page_len[r]
                                                                          : full;
  FOVEA_CHECK(0 <= tokens && tokens <= full && tokens < 1 << 29,
              "append_kv: request {} has {} tokens after the append; its {} pages hold {}", r, tokens, entries, full);
  const std::int64_t appended = params.append_indptr[r + 1] - params.append_indptr[r];
  FOVEA_CHECK(appended <= tokens, "append_kv: request {} appends {} tokens but has {} after the append; kv_len counts the new ones", r,
              appended, tokens);
  const std::int64_t begin = f.page_indptr != nullptr ? f.page_indptr[r] : row * f.table_row_stride;
  for (std::int64_t entry = (tokens - appended) / f.page_size; appended > 0 && entry <= (tokens - 1) / f.page_size; ++entry) {
    const std::int32_t page = params.table[begin + entry];
    FOVEA_CHECK(0 <= page && page < args.cache.k.dim(0), "append_kv: request {} appends to page {}, its entry {}; the cache has {} pages",
                r, page, entry, args.cache.k.dim(0));
  }
}

void check_requests(const AppendArgs& args, Device device, AppendParams& params) {
  const Argument name = argument("append_indptr");
  check_any_vector(name, args.append_indptr, DType::i32, device);
  const std::int64_t n = args.append_indptr.dim(0) - 1;
  FOVEA_CHECK(0 <= n && n < 1 << 29, "append_kv: append_indptr has {} entries; it needs num_requests + 1", n + 1);
  params.num_requests = static_cast<std::int32_t>(n);
  params.append_indptr = args.append_indptr.as<const std::int32_t>();
  check_tables(args, device, params);
  if (!host_reads(device)) {
    return;
  }
  check_indptr(name, params.append_indptr, params.num_requests);
  FOVEA_CHECK(params.append_indptr[n] == params.num_tokens, "append_kv: append_indptr ends at {} but k has {} tokens",
              params.append_indptr[n], params.num_tokens);
  for (std::int32_t r = 0; r < params.num_requests; ++r) {
    check_request(args, params, r);
  }
}

/// The cache lies apart from all that is read to fill it.
void check_cache_apart(const AppendArgs& args) {
  const KvTables& t = args.tables;
  const std::pair<Argument, const TensorView*> read[] = {
      {argument("k"), &args.k},
      {argument("v"), &args.v},
      {argument("slot_mapping"), &args.slot_mapping},
      {argument("append_indptr"), &args.append_indptr},
      {argument("tables", "page_indptr"), &t.page_indptr},
      {argument("tables", "page_indices"), &t.page_indices},
      {argument("tables", "page_table"), &t.page_table},
      {argument("tables", "last_page_len"), &t.last_page_len},
      {argument("tables", "kv_len"), &t.kv_len},
      {argument("tables", "table_rows"), &t.table_rows},
  };
  for (const auto& [name, tensor] : read) {
    check_apart(argument("cache", "k"), args.cache.k, name, *tensor);
    check_apart(argument("cache", "v"), args.cache.v, name, *tensor);
    if (args.kv_quant == KvQuant::token) {
      check_apart(argument("cache", "k_scale"), args.cache.k_scale.tensor, name, *tensor);
      check_apart(argument("cache", "v_scale"), args.cache.v_scale.tensor, name, *tensor);
    }
  }
}

}  // namespace

AppendParams check_append(const AppendArgs& args, Device device) {
  AppendParams params{};
  check_new_tokens(args, device, params);
  check_cache(args, device, params);
  const bool by_slot = args.slot_mapping.defined();
  FOVEA_CHECK(by_slot != args.append_indptr.defined(), "append_kv: {} slot_mapping and append_indptr; give one",
              by_slot ? "both" : "neither of");
  const KvTables& t = args.tables;
  FOVEA_CHECK(!by_slot || !(t.page_indptr.defined() || t.page_indices.defined() || t.page_table.defined() || t.table_rows.defined() ||
                            t.kv_len.defined() || t.last_page_len.defined()),
              "append_kv: tables is given with slot_mapping, which needs none");
  if (by_slot) {
    check_slots(args, device, params);
  } else {
    check_requests(args, device, params);
  }
  check_cache_apart(args);
  return params;
}

}  // namespace fovea
