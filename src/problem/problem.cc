// check_problem: the spec, limits and options of prepare(), with every default resolved.
#include "src/problem/problem.h"

#include "src/describe.h"
#include "src/support/check.h"

namespace fovea {
namespace {

constexpr std::int32_t kMaxHeads = 32768;                     // RowGroup and WorkItem hold heads in 16 bits, one of them reserved
constexpr std::int32_t kMaxCount = (1 << 29) - 1;             // positions and their sums stay inside 32 bits
constexpr std::int64_t kMaxKvTokens = std::int64_t{1} << 47;  // times heads stays inside 64 bits
constexpr std::int32_t kMaxMaskGroups = 64;
constexpr std::int32_t kMaxWorkers = 65536;

void check_heads(const AttentionSpec& spec) {
  FOVEA_CHECK(1 <= spec.num_qo_heads && spec.num_qo_heads <= kMaxHeads, "prepare: num_qo_heads = {}; it must be 1 to {}", spec.num_qo_heads,
              kMaxHeads);
  FOVEA_CHECK(1 <= spec.num_kv_heads && spec.num_kv_heads <= kMaxHeads, "prepare: num_kv_heads = {}; it must be 1 to {}", spec.num_kv_heads,
              kMaxHeads);
  FOVEA_CHECK(spec.num_qo_heads % spec.num_kv_heads == 0,
              "prepare: num_qo_heads = {} is no multiple of num_kv_heads = {}; every kv head serves as many", spec.num_qo_heads,
              spec.num_kv_heads);
  FOVEA_CHECK(1 <= spec.head_dim_qk && spec.head_dim_qk <= kMaxHeadDim, "prepare: head_dim_qk = {}; it must be 1 to {}", spec.head_dim_qk,
              kMaxHeadDim);
  FOVEA_CHECK(0 <= spec.head_dim_vo && spec.head_dim_vo <= kMaxHeadDim,
              "prepare: head_dim_vo = {}; it must be 1 to {}, or 0: as head_dim_qk", spec.head_dim_vo, kMaxHeadDim);
}

void check_dtype_of(const char* role, DType dtype) {
  FOVEA_CHECK(static_cast<int>(dtype) < kNumDTypes, "prepare: {}_dtype is number {}; fovea has {} dtypes", role, static_cast<int>(dtype),
              +kNumDTypes);
  FOVEA_CHECK(is_float(dtype), "prepare: {}_dtype is {}; attention needs f32, f16, bf16, e4m3 or e5m2", role, name_of(dtype));
}

void check_dtypes(const AttentionSpec& spec) {
  check_dtype_of("q", spec.q_dtype);
  check_dtype_of("k", spec.k_dtype);
  check_dtype_of("v", spec.v_dtype);
  check_dtype_of("o", spec.o_dtype);
  FOVEA_CHECK(row_of(spec.o_dtype).bits >= 16, "prepare: o_dtype is {}; outputs are f32, f16 or bf16", name_of(spec.o_dtype));
  FOVEA_CHECK(spec.kv_quant <= KvQuant::token, "prepare: kv_quant is number {}; it is none, tensor, head or token",
              static_cast<int>(spec.kv_quant));
  const bool narrow = row_of(spec.k_dtype).bits <= 8 || row_of(spec.v_dtype).bits <= 8;
  FOVEA_CHECK(spec.kv_quant == KvQuant::none || narrow, "prepare: kv_quant is {} but k is {} and v is {}; scales go with an 8-bit cache",
              name_of(spec.kv_quant), name_of(spec.k_dtype), name_of(spec.v_dtype));
}

void check_format(std::size_t i, const KvFormat& format) {
  FOVEA_CHECK(1 <= format.page_size && format.page_size <= kMaxCount, "prepare: formats[{}].page_size = {}; it must be 1 to {}", i,
              format.page_size, kMaxCount);
  FOVEA_CHECK(0 <= format.block_rows && format.block_rows <= kMaxCount, "prepare: formats[{}].block_rows = {}; it must be 0 to {}", i,
              format.block_rows, kMaxCount);
  FOVEA_CHECK(format.has_table || format.page_size == 1,
              "prepare: formats[{}] is ragged with page_size {}; ragged K and V have no pages, give 1", i, format.page_size);
  FOVEA_CHECK(format.has_table || !format.by_index, "prepare: formats[{}] is ragged and by_index; positions by storage index need a table",
              i);
  FOVEA_CHECK(format.has_table || !format.per_kv_head,
              "prepare: formats[{}] is ragged and per_kv_head; only tables can differ between heads", i);
}

void check_formats(const AttentionSpec& spec) {
  FOVEA_CHECK(!spec.formats.empty() && spec.formats.size() <= kMaxFormats, "prepare: {} formats; a problem has 1 to {}",
              spec.formats.size(), +kMaxFormats);
  for (std::size_t i = 0; i < spec.formats.size(); ++i) {
    check_format(i, spec.formats[i]);
  }
}

void check_limit(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  FOVEA_CHECK(least <= value && value <= most, "prepare: limits.{} = {}; it must be {} to {}", name, value, least, most);
}

std::int64_t default_row_groups(const AttentionSpec& spec, const Limits& limits) {
  std::int64_t groups = 0;
  for (const KvFormat& format : spec.formats) {
    const std::int64_t sets = format.block_rows > 0 ? ceil_div(limits.max_query_tokens, format.block_rows) : limits.max_requests;
    groups += sets * (format.per_kv_head ? spec.num_kv_heads : 1);
  }
  return groups;
}

/// Groups that may each have the tokens of a whole request, a row set's heads counted as one: all there can be when the caller says how
/// many, else requests or row blocks. (Prefixes and suffixes of several formats add up to requests.)
std::int64_t most_row_sets(const AttentionSpec& spec, const Limits& limits) {
  bool all_per_head = true;
  std::int64_t blocks = 0;
  for (const KvFormat& format : spec.formats) {
    all_per_head = all_per_head && format.per_kv_head;
    blocks += format.block_rows > 0 ? ceil_div(limits.max_query_tokens, format.block_rows) : 0;
  }
  const std::int64_t given = ceil_div(limits.max_row_groups, all_per_head ? spec.num_kv_heads : 1);
  return max_<std::int64_t>(max_(given, blocks), limits.max_requests);
}

Limits resolve_limits(const AttentionSpec& spec, Limits limits) {
  check_limit("max_requests", limits.max_requests, 1, kMaxCount);
  check_limit("max_query_tokens", limits.max_query_tokens, 0, kMaxCount);
  check_limit("max_query_tokens_per_request", limits.max_query_tokens_per_request, 0, kMaxCount);
  check_limit("max_kv_tokens_per_request", limits.max_kv_tokens_per_request, 0, kMaxCount);
  check_limit("max_kv_tokens", limits.max_kv_tokens, 0, kMaxKvTokens);
  check_limit("max_row_groups", limits.max_row_groups, 0, kMaxCount);
  check_limit("max_mask_groups", limits.max_mask_groups, 1, kMaxMaskGroups);

  if (limits.max_query_tokens == 0) {
    limits.max_query_tokens = max_(limits.max_requests, limits.max_query_tokens_per_request);
  }
  if (limits.max_query_tokens_per_request == 0) {
    limits.max_query_tokens_per_request = limits.max_query_tokens;
  }
  FOVEA_CHECK(limits.max_query_tokens_per_request <= limits.max_query_tokens,
              "prepare: limits.max_query_tokens_per_request = {} is over limits.max_query_tokens = {}", limits.max_query_tokens_per_request,
              limits.max_query_tokens);
  if (limits.max_kv_tokens_per_request == 0) {
    limits.max_kv_tokens_per_request = 131072;
    if (limits.max_kv_tokens != 0) {
      limits.max_kv_tokens_per_request = static_cast<std::int32_t>(min_<std::int64_t>(131072, limits.max_kv_tokens));
    }
  }
  if (limits.max_kv_tokens == 0) {
    limits.max_kv_tokens = min_(kMaxKvTokens, limits.max_kv_tokens_per_request * most_row_sets(spec, limits));
  }
  FOVEA_CHECK(limits.max_kv_tokens_per_request <= limits.max_kv_tokens,
              "prepare: limits.max_kv_tokens_per_request = {} is over limits.max_kv_tokens = {}", limits.max_kv_tokens_per_request,
              limits.max_kv_tokens);
  if (limits.max_row_groups == 0) {
    const std::int64_t groups = default_row_groups(spec, limits);
    FOVEA_CHECK(groups <= kMaxCount, "prepare: these limits allow {} row groups; at most {}; give limits.max_row_groups", groups,
                kMaxCount);
    limits.max_row_groups = static_cast<std::int32_t>(groups);
  }
  const std::int64_t packed = std::int64_t{limits.max_query_tokens} * (spec.num_qo_heads / spec.num_kv_heads);
  FOVEA_CHECK(packed <= 2 * std::int64_t{kMaxCount},
              "prepare: limits.max_query_tokens = {} with {} query heads a kv head is {} packed rows; at most {}", limits.max_query_tokens,
              spec.num_qo_heads / spec.num_kv_heads, packed, 2 * std::int64_t{kMaxCount});
  return limits;
}

void check_options(const PrepareOptions& options) {
  FOVEA_CHECK(options.policy <= Policy::fixed_split, "prepare: policy is number {}; it is throughput, batch_invariant or fixed_split",
              static_cast<int>(options.policy));
  if (options.policy == Policy::fixed_split) {
    FOVEA_CHECK(options.fixed_split > 0 && options.fixed_split <= kMaxCount,
                "prepare: fixed_split = {}; Policy::fixed_split needs 1 to {} tokens", options.fixed_split, kMaxCount);
  } else {
    FOVEA_CHECK(options.fixed_split == 0, "prepare: fixed_split = {} but the policy is {}; it goes with Policy::fixed_split",
                options.fixed_split, name_of(options.policy));
  }
  FOVEA_CHECK(0 <= options.num_workers && options.num_workers <= kMaxWorkers,
              "prepare: num_workers = {}; it must be 1 to {}, or 0: the backend's default", options.num_workers, kMaxWorkers);
  FOVEA_CHECK(options.max_workspace_bytes >= -1, "prepare: max_workspace_bytes = {}; it must be 0 or more, or -1: as much as helps",
              options.max_workspace_bytes);
}

void check_count(std::int64_t count, const char* what) {
  FOVEA_CHECK(count < (std::int64_t{1} << 31),
              "prepare: these limits need room for {} {}; at most 2^31 - 1; lower max_query_tokens, max_row_groups or max_kv_tokens", count,
              what);
}

}  // namespace

void check_plan_needs(const Problem& problem, const PlanNeeds& needs) {
  check_count(needs.row_refs, "row references");
  check_count(needs.row_tiles, "row tiles");
  check_count(needs.partial_states, "partial states");
  check_count(needs.work_items, "work items");
  FOVEA_CHECK(
      needs.partial_states <= needs.affordable_states,
      "prepare: fixed_split = {} can need {} partial states of {} bytes for these limits, max_workspace_bytes = {} leaves room for {}; "
      "give more, or lower max_kv_tokens, or take a longer split",
      problem.options.fixed_split, needs.partial_states, needs.bytes_per_state, problem.options.max_workspace_bytes,
      needs.affordable_states);
}

Problem check_problem(const AttentionSpec& spec, const Limits& limits, const PrepareOptions& options) {
  check_heads(spec);
  check_dtypes(spec);
  check_formats(spec);
  check_options(options);
  Problem problem{
      .spec = spec, .limits = resolve_limits(spec, limits), .options = options, .group_size = spec.num_qo_heads / spec.num_kv_heads};
  if (problem.spec.head_dim_vo == 0) {
    problem.spec.head_dim_vo = spec.head_dim_qk;
  }
  return problem;
}

}  // namespace fovea
