#include "src/problem/error_cases.h"

namespace fovea::test {
namespace {

struct Prepare {
  AttentionSpec spec{.num_qo_heads = 8, .num_kv_heads = 2, .head_dim_qk = 64};
  Limits limits;
  PrepareOptions options;
  void check() const { check_problem(spec, limits, options); }
};

using P = Prepare;

struct Needs {
  Problem problem;
  PlanNeeds needs{.affordable_states = 1000};
  void check() const { check_plan_needs(problem, needs); }
};

}  // namespace

std::vector<ErrorCase> prepare_error_cases() {
  return {
      wrong<P>("prepare: num_qo_heads = 0; it must be 1 to 32768", [](P& p) { p.spec.num_qo_heads = 0; }),
      wrong<P>("prepare: num_kv_heads = -2; it must be 1 to 32768", [](P& p) { p.spec.num_kv_heads = -2; }),
      wrong<P>("prepare: num_qo_heads = 8 is no multiple of num_kv_heads = 3; every kv head serves as many",
               [](P& p) { p.spec.num_kv_heads = 3; }),
      wrong<P>("prepare: head_dim_qk = 1025; it must be 1 to 1024", [](P& p) { p.spec.head_dim_qk = 1025; }),
      wrong<P>("prepare: head_dim_vo = -1; it must be 1 to 1024, or 0: as head_dim_qk", [](P& p) { p.spec.head_dim_vo = -1; }),
      wrong<P>("prepare: q_dtype is number 77; fovea has 8 dtypes", [](P& p) { p.spec.q_dtype = static_cast<DType>(77); }),
      wrong<P>("prepare: k_dtype is i32; attention needs f32, f16, bf16, e4m3 or e5m2", [](P& p) { p.spec.k_dtype = DType::i32; }),
      wrong<P>("prepare: v_dtype is u8; attention needs f32, f16, bf16, e4m3 or e5m2", [](P& p) { p.spec.v_dtype = DType::u8; }),
      wrong<P>("prepare: o_dtype is e4m3; outputs are f32, f16 or bf16", [](P& p) { p.spec.o_dtype = DType::e4m3; }),
      wrong<P>("prepare: kv_quant is head but k is bf16 and v is f16; scales go with an 8-bit cache",
               [](P& p) { p.spec.kv_quant = KvQuant::head, p.spec.v_dtype = DType::f16; }),
      wrong<P>("prepare: formats[0].page_size = 0; it must be 1 to 536870911", [](P& p) { p.spec.formats = {KvFormat::paged(0)}; }),
      wrong<P>("prepare: formats[1].block_rows = -4; it must be 0 to 536870911",
               [](P& p) {
                 p.spec.formats = {KvFormat::paged(1), KvFormat::block_sparse(-4, 1)};
               }),
      wrong<P>("prepare: formats[0] is ragged with page_size 2; ragged K and V have no pages, give 1",
               [](P& p) { p.spec.formats = {{.page_size = 2, .has_table = false}}; }),
      wrong<P>("prepare: formats[0] is ragged and by_index; positions by storage index need a table",
               [](P& p) { p.spec.formats = {{.has_table = false, .by_index = true}}; }),
      wrong<P>("prepare: formats[0] is ragged and per_kv_head; only tables can differ between heads",
               [](P& p) { p.spec.formats = {{.has_table = false, .per_kv_head = true}}; }),
      wrong<P>("prepare: 0 formats; a problem has 1 to 8", [](P& p) { p.spec.formats.clear(); }),
      wrong<P>("prepare: 9 formats; a problem has 1 to 8", [](P& p) { p.spec.formats.resize(9); }),
      wrong<P>("prepare: limits.max_requests = 0; it must be 1 to 536870911", [](P& p) { p.limits.max_requests = 0; }),
      wrong<P>("prepare: limits.max_query_tokens = -1; it must be 0 to 536870911", [](P& p) { p.limits.max_query_tokens = -1; }),
      wrong<P>("prepare: limits.max_kv_tokens_per_request = 536870912; it must be 0 to 536870911",
               [](P& p) { p.limits.max_kv_tokens_per_request = 1 << 29; }),
      wrong<P>("prepare: limits.max_kv_tokens = -5; it must be 0 to 140737488355328", [](P& p) { p.limits.max_kv_tokens = -5; }),
      wrong<P>("prepare: limits.max_mask_groups = 0; it must be 1 to 64", [](P& p) { p.limits.max_mask_groups = 0; }),
      wrong<P>("prepare: limits.max_query_tokens_per_request = 300 is over limits.max_query_tokens = 256",
               [](P& p) { p.limits.max_query_tokens = 256, p.limits.max_query_tokens_per_request = 300; }),
      wrong<P>("prepare: limits.max_kv_tokens_per_request = 4096 is over limits.max_kv_tokens = 1000",
               [](P& p) { p.limits.max_kv_tokens_per_request = 4096, p.limits.max_kv_tokens = 1000; }),
      wrong<P>("prepare: these limits allow 1073741822 row groups; at most 536870911; give limits.max_row_groups",
               [](P& p) { p.limits.max_requests = (1 << 29) - 1, p.spec.formats = {{.page_size = 1, .per_kv_head = true}}; }),
      wrong<P>("prepare: limits.max_query_tokens = 536870911 with 4 query heads a kv head is 2147483644 packed rows; at most 1073741822",
               [](P& p) { p.limits.max_query_tokens = (1 << 29) - 1; }),
      wrong<P>("prepare: kv_quant is number 9; it is none, tensor, head or token", [](P& p) { p.spec.kv_quant = static_cast<KvQuant>(9); }),
      wrong<P>("prepare: policy is number 3; it is throughput, batch_invariant or fixed_split",
               [](P& p) { p.options.policy = static_cast<Policy>(3); }),
      wrong<P>("prepare: fixed_split = 0; Policy::fixed_split needs 1 to 536870911 tokens",
               [](P& p) { p.options.policy = Policy::fixed_split; }),
      wrong<P>("prepare: fixed_split = 128 but the policy is batch_invariant; it goes with Policy::fixed_split",
               [](P& p) { p.options.policy = Policy::batch_invariant, p.options.fixed_split = 128; }),
      wrong<P>("prepare: num_workers = -1; it must be 1 to 65536, or 0: the backend's default", [](P& p) { p.options.num_workers = -1; }),
      wrong<P>("prepare: max_workspace_bytes = -2; it must be 0 or more, or -1: as much as helps",
               [](P& p) { p.options.max_workspace_bytes = -2; }),
      wrong<Needs>("prepare: these limits need room for 2147483648 row tiles; at most 2^31 - 1; lower max_query_tokens, max_row_groups or "
                   "max_kv_tokens",
                   [](Needs& n) { n.needs.row_tiles = std::int64_t{1} << 31; }),
      wrong<Needs>("prepare: fixed_split = 512 can need 2000 partial states of 516 bytes for these limits, max_workspace_bytes = 516000 "
                   "leaves room for 1000; give more, or lower max_kv_tokens, or take a longer split",
                   [](Needs& n) {
                     n.problem.options = {.policy = Policy::fixed_split, .fixed_split = 512, .max_workspace_bytes = 516000};
                     n.needs.partial_states = 2000, n.needs.bytes_per_state = 516;
                   }),
  };
}

}  // namespace fovea::test
