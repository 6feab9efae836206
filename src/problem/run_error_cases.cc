#include "src/problem/error_cases.h"
#include "src/problem/run_fixture.h"

namespace fovea::test {

namespace {
using R = RunCall;
}

// Long: a table, a row for every refusal.
std::vector<ErrorCase> run_error_cases() {
  return {
      wrong<R>("run: q is not given; it needs [tokens, num_qo_heads, head_dim]", [](R& r) { r.args.q = {}; }),
      wrong<R>("run: q has 2 axes; it needs [tokens, num_qo_heads, head_dim]", [](R& r) { r.args.q = r.args.q.select(0, 0); }),
      wrong<R>("run: q has dtype f16; it needs bf16", [](R& r) { r.args.q.dtype = DType::f16; }),
      wrong<R>("run: q has innermost stride 2; it must be 1", [](R& r) { set_stride(r.args.q, 2, 2); }),
      wrong<R>("run: q has 3 tokens but the plan has 4", [](R& r) { r.args.q = r.args.q.slice(0, 0, 3); }),
      wrong<R>("run: q has 6 heads but the spec says num_qo_heads = 8", [](R& r) { r.args.q = r.args.q.slice(1, 0, 6); }),
      wrong<R>("run: q has head_dim 56 but the spec says 64", [](R& r) { r.args.q = r.args.q.slice(2, 0, 56); }),
      wrong<R>("run: o is on cuda:1 but the engine runs on cpu", [](R& r) { set_cuda(r.args.o); }),
      wrong<R>("run: o has head_dim 24 but the spec says 32", [](R& r) { r.args.o = r.args.o.slice(2, 0, 24); }),
      wrong<R>("run: o has dtype bf16; it needs f32", [](R& r) { r.args.o.dtype = DType::bf16; }),
      wrong<R>("run: o is written but its elements overlap: stride 0 of axis 1 is less than 1", [](R& r) { set_stride(r.args.o, 1, 0); }),
      wrong<R>("run: o is written but its elements overlap: stride 100 of axis 0 is less than 256",
               [](R& r) { set_stride(r.args.o, 0, 100); }),
      wrong<R>("run: lse has 1 axes; it needs [tokens, num_qo_heads]", [](R& r) { r.args.lse = r.args.lse.select(1, 0); }),
      wrong<R>("run: lse has dtype f16; it needs f32", [](R& r) { r.args.lse.dtype = DType::f16; }),
      wrong<R>("run: lse has 2 tokens but the plan has 4", [](R& r) { r.args.lse = r.args.lse.slice(0, 0, 2); }),
      wrong<R>("run: lse has 4 heads but the spec says num_qo_heads = 8", [](R& r) { r.args.lse = r.args.lse.slice(1, 0, 4); }),
      wrong<R>("run: lse is not given; Output::states needs it", [](R& r) { r.args.lse = {}, r.args.output = Output::states; }),
      wrong<R>("run: lse_base2 is set but lse is not given", [](R& r) { r.args.lse = {}, r.args.lse_base2 = true; }),
      wrong<R>("run: lse_with_extra is set but lse is not given", [](R& r) { r.args.lse = {}, r.args.lse_with_extra = true; }),
      wrong<R>("run: lse_with_extra is set but Output::states leaves the extra logit out",
               [](R& r) { r.args.lse_with_extra = true, r.args.output = Output::states; }),
      wrong<R>("run: lse is asked of variant 'sigmoid', which has no softmax", [](R& r) { r.spec.variant = "sigmoid"; }),
      wrong<R>(
          "run: states are asked of variant 'causal+sigmoid', which has no softmax and so no lse; its outputs are sums: add finalised ones",
          [](R& r) { r.spec.variant = "causal+sigmoid", r.args.output = Output::states; }),
      wrong<R>("run: kv has 2 caches but the spec has 1 formats", [](R& r) { r.caches.push_back(r.caches[0]); }),
      wrong<R>("run: kv[0].k has dtype bf16; it needs e4m3", [](R& r) { r.caches[0].k.dtype = DType::bf16; }),
      wrong<R>("run: kv[0].v has dtype e5m2; it needs e4m3", [](R& r) { r.caches[0].v.dtype = DType::e5m2; }),
      wrong<R>("run: kv[0].k has 10 pages but kv[0].v has 9; one table serves both",
               [](R& r) { r.caches[0].v = r.caches[0].v.slice(0, 0, 9); }),
      wrong<R>("run: kv[0].k has 10 tokens but the plan's last request ends at 11",
               [](R& r) { r.make_ragged(), r.planned.ragged_tokens[0] = 11; }),
      wrong<R>("run: kv[0] has 10 pages of 4 tokens in steps of 20000000; positions by storage index end at 536870912",
               [](R& r) { r.spec.formats[0].by_index = true, r.planned.kv_pos_strides[0] = 20000000; }),
      wrong<R>("run: o overlaps q in memory; what is written must lie apart", [](R& r) { r.args.o.data = r.args.q.data; }),
      wrong<R>("run: o overlaps lse in memory; what is written must lie apart", [](R& r) { r.args.o.data = r.args.lse.as<float>() + 31; }),
      wrong<R>("run: lse overlaps q in memory; what is written must lie apart", [](R& r) { r.args.lse.data = r.args.q.as<char>() + 16; }),
      wrong<R>("run: o overlaps kv[0].k in memory; what is written must lie apart", [](R& r) { r.args.o.data = r.caches[0].k.data; }),
      wrong<R>("run: o overlaps kv[0].v in memory; what is written must lie apart", [](R& r) { r.args.o.data = r.caches[0].v.data; }),
      wrong<R>("run: lse overlaps kv[0].v in memory; what is written must lie apart", [](R& r) { r.args.lse.data = r.caches[0].v.data; }),
      wrong<R>("run: o overlaps kv[0].k_scale in memory; what is written must lie apart",
               [](R& r) { r.caches[0].k_scale = TensorView::contiguous(r.o.data() + 5, DType::f32, {1}); }),
      wrong<R>("run: lse overlaps kv[0].v_scale in memory; what is written must lie apart",
               [](R& r) { r.caches[0].v_scale = TensorView::contiguous(r.lse.data(), DType::f32, {1}); }),
      wrong<R>("run: o overlaps kv[0].page_indices in memory; what is written must lie apart",
               [](R& r) { r.planned.page_ids[0] = TensorView::contiguous(r.o.data() + 1000, DType::i32, {24}); }),
      wrong<R>("run: lse overlaps kv[0].page_table in memory; what is written must lie apart",
               [](R& r) {
                 r.planned.page_ids[0] = TensorView::contiguous(r.lse.data() + 31, DType::i32, {2, 8});
               }),
      wrong<R>("run: o overlaps params.sink in memory; what is written must lie apart",
               [](R& r) {
                 static Value sink("sink", 0);
                 sink.value = TensorView::contiguous(r.o.data() + 8, DType::f32, {8});
                 r.args.params = {&sink, 1};
               }),
      wrong<R>("run: lse overlaps mask.mask in memory; what is written must lie apart",
               [](R& r) {
                 static Value bits("mask", 0);
                 bits.value = TensorView::contiguous(r.lse.data(), DType::i32, {8});
                 r.args.mask = MaskValues{.values = {&bits, 1}};
               }),
      wrong<R>("run: output is number 2; it is finalised or states", [](R& r) { r.args.output = static_cast<Output>(2); }),
      wrong<R>("run: the data of o is 2 bytes past a multiple of its elements' 4; elements are aligned to themselves",
               [](R& r) { r.args.o.data = r.args.o.as<char>() + 2; }),
      wrong<R>("run: the dtype of q is number 200; fovea has 8 dtypes", [](R& r) { r.args.q.dtype = static_cast<DType>(200); }),
      wrong<R>("run: kv[0] has 1099511627776 pages of 16777216 tokens in steps of 1; positions by storage index end at 536870912",
               [](R& r) {
                 r.spec.formats[0] = KvFormat::block_sparse(1, 1 << 24);
                 for (TensorView* cache : {&r.caches[0].k, &r.caches[0].v}) {
                   set_dim(*cache, 0, std::int64_t{1} << 40), set_stride(*cache, 0, 0);
                   set_dim(*cache, 1, 1 << 24), set_stride(*cache, 1, 0);
                 }
               }),
      wrong<R>("run: sm_scale = nan; it must be finite", [](R& r) { r.args.sm_scale = NAN; }),
      wrong<R>("run: q_scale = inf; it must be finite", [](R& r) { r.args.q_scale = INFINITY; }),
      wrong<R>("run: sm_scale = 1e+30 times q_scale = 1e+30 is not a finite float",
               [](R& r) { r.args.sm_scale = 1e30f, r.args.q_scale = 1e30f; }),
  };
}

std::vector<ErrorCase> cache_error_cases() {
  return {
      wrong<R>(
          "run: kv[0].k is not given; it needs [pages, page_size, heads, head_dim], heads before page_size, or [slots, heads, head_dim]",
          [](R& r) { r.caches[0].k = {}; }),
      wrong<R>("run: kv[0].k has 3 axes, which is page size 1, but the format has page_size 4; give 4 axes",
               [](R& r) { r.caches[0].k = r.caches[0].k.select(1, 0); }),
      wrong<R>("run: kv[0].k has 4 heads in axis 2; it needs num_kv_heads = 2",
               [](R& r) {
                 r.caches[0].k = r.caches[0].k.permute({0, 2, 1, 3});
               }),
      wrong<R>("run: kv[0].v has 4 heads in axis 1; it needs num_kv_heads = 2",
               [](R& r) {
                 r.caches[0].layout = KvLayout::hnd, r.caches[0].k = r.caches[0].k.permute({0, 2, 1, 3});
               }),
      wrong<R>("run: kv[0].v has head_dim 16 but it needs 32", [](R& r) { r.caches[0].v = r.caches[0].v.slice(3, 0, 16); }),
      wrong<R>("run: kv[0].k has 2 tokens a page in axis 1 but the format has page_size 4",
               [](R& r) { r.caches[0].k = r.caches[0].k.slice(1, 0, 2); }),
      wrong<R>("run: kv[0].k has innermost stride 2; it must be 1", [](R& r) { set_stride(r.caches[0].k, 3, 2); }),
      wrong<R>("run: the layout of kv[0].k is number 2; it is nhd or hnd", [](R& r) { r.caches[0].layout = static_cast<KvLayout>(2); }),
      wrong<R>("run: kv[0].k_scale = inf; it must be finite", [](R& r) { r.caches[0].k_scale = INFINITY; }),
      wrong<R>("run: kv[0].v_scale = 0.5 but kv_quant is none; scales need KvQuant::tensor, head or token",
               [](R& r) { r.spec.kv_quant = KvQuant::none, r.caches[0].k_scale = 1.0f, r.caches[0].v_scale = 0.5f; }),
      wrong<R>("run: kv[0].k_scale is given but kv_quant is none; scales need KvQuant::tensor, head or token",
               [](R& r) { r.spec.kv_quant = KvQuant::none, r.caches[0].k_scale = r.scale_tensor({1}); }),
      wrong<R>("run: kv[0].k_scale is a number but kv_quant is head; it needs an f32 tensor",
               [](R& r) { r.spec.kv_quant = KvQuant::head; }),
      wrong<R>("run: kv[0].k_scale has 1 entries but kv_quant head needs 2",
               [](R& r) { r.spec.kv_quant = KvQuant::head, r.caches[0].k_scale = r.scale_tensor({1}); }),
      wrong<R>("run: kv[0].v_scale has 2 entries but kv_quant tensor needs 1", [](R& r) { r.caches[0].v_scale = r.scale_tensor({2}); }),
      wrong<R>("run: kv[0].k_scale has dtype i32; it needs f32",
               [](R& r) { r.caches[0].k_scale = r.scale_tensor({1}), r.caches[0].k_scale.tensor.dtype = DType::i32; }),
      wrong<R>("run: kv[0].k_scale has 2 axes; it needs the cache's axes without the last",
               [](R& r) {
                 r.spec.kv_quant = KvQuant::token, r.caches[0].k_scale = r.scale_tensor({10, 4});
               }),
      wrong<R>(
          "run: kv[0].k_scale has extent 3 in axis 1 but the cache has 4; a scale per token is shaped like the cache without its last axis",
          [](R& r) {
            r.spec.kv_quant = KvQuant::token, r.caches[0].k_scale = r.scale_tensor({10, 3, 2});
          }),
  };
}

}  // namespace fovea::test
