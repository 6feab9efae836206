// check_run: one layer's tensors against the spec and the plan.
#include <cmath>

#include "src/problem/problem.h"
#include "src/problem/scale.h"
#include "src/problem/tensor_check.h"

namespace fovea {
namespace {

Argument argument(std::string_view field) { return {"run", "", -1, field}; }
Argument argument(std::size_t format, std::string_view field) { return {"run", "kv", static_cast<int>(format), field}; }

/// [tokens, num_qo_heads, head_dim] with at least the plan's tokens.
void check_rows(const Problem& problem, const PlannedBatch& planned, const Argument& name, const TensorView& tensor, std::int32_t head_dim,
                Device device) {
  check_tensor(name, tensor, 3, "[tokens, num_qo_heads, head_dim]", device);
  check_innermost(name, tensor);
  FOVEA_CHECK(tensor.dim(0) >= planned.num_query_tokens, "run: {} has {} tokens but the plan has {}", name, tensor.dim(0),
              planned.num_query_tokens);
  FOVEA_CHECK(tensor.dim(1) == problem.spec.num_qo_heads, "run: {} has {} heads but the spec says num_qo_heads = {}", name, tensor.dim(1),
              problem.spec.num_qo_heads);
  FOVEA_CHECK(tensor.dim(2) == head_dim, "run: {} has head_dim {} but the spec says {}", name, tensor.dim(2), head_dim);
}

void check_lse(const Problem& problem, const VariantInfo& variant, const PlannedBatch& planned, const RunArgs& args, Device device) {
  FOVEA_CHECK(args.output <= Output::states, "run: output is number {}; it is finalised or states", static_cast<int>(args.output));
  const bool states = args.output == Output::states;
  FOVEA_CHECK(!states || variant.use_softmax,
              "run: states are asked of variant '{}', which has no softmax and so no lse; its outputs are sums: add finalised ones",
              variant.name);
  if (!args.lse.defined()) {
    FOVEA_CHECK(!states, "run: lse is not given; Output::states needs it");
    FOVEA_CHECK(!args.lse_base2 && !args.lse_with_extra, "run: {} is set but lse is not given",
                args.lse_base2 ? "lse_base2" : "lse_with_extra");
    return;
  }
  FOVEA_CHECK(variant.use_softmax, "run: lse is asked of variant '{}', which has no softmax", variant.name);
  FOVEA_CHECK(!states || !args.lse_with_extra, "run: lse_with_extra is set but Output::states leaves the extra logit out");
  const Argument name = argument("lse");
  check_tensor(name, args.lse, 2, "[tokens, num_qo_heads]", device);
  check_dtype(name, args.lse, DType::f32);
  check_writable(name, args.lse);
  FOVEA_CHECK(args.lse.dim(0) >= planned.num_query_tokens, "run: lse has {} tokens but the plan has {}", args.lse.dim(0),
              planned.num_query_tokens);
  FOVEA_CHECK(args.lse.dim(1) == problem.spec.num_qo_heads, "run: lse has {} heads but the spec says num_qo_heads = {}", args.lse.dim(1),
              problem.spec.num_qo_heads);
}

void check_kv(const Problem& problem, const PlannedBatch& planned, const RunArgs& args, std::size_t i, Device device, KvView& view) {
  const AttentionSpec& spec = problem.spec;
  const KvFormat& format = spec.formats[i];
  const KvCache& cache = args.kv[i];
  const CacheRule rule{"run", spec.num_kv_heads, format.page_size, spec.kv_quant, device};
  check_cache_tensor(rule, argument(i, "k"), cache.k, cache.layout, spec.head_dim_qk, view.k);
  check_cache_tensor(rule, argument(i, "v"), cache.v, cache.layout, spec.head_dim_vo, view.v);
  check_dtype(argument(i, "k"), cache.k, spec.k_dtype);
  check_dtype(argument(i, "v"), cache.v, spec.v_dtype);
  FOVEA_CHECK(cache.k.dim(0) == cache.v.dim(0), "run: kv[{}].k has {} pages but kv[{}].v has {}; one table serves both", i, cache.k.dim(0),
              i, cache.v.dim(0));
  FOVEA_CHECK(cache.k.dim(0) >= planned.ragged_tokens[i], "run: kv[{}].k has {} tokens but the plan's last request ends at {}", i,
              cache.k.dim(0), planned.ragged_tokens[i]);
  FOVEA_CHECK(!format.by_index || cache.k.dim(0) <= kMaxPosition / format.page_size / planned.kv_pos_strides[i],
              "run: kv[{}] has {} pages of {} tokens in steps of {}; positions by storage index end at {}", i, cache.k.dim(0),
              format.page_size, planned.kv_pos_strides[i], kMaxPosition);
  check_scale(rule, argument(i, "k_scale"), cache.k_scale, cache.k, cache.layout, view.k.scale);
  check_scale(rule, argument(i, "v_scale"), cache.v_scale, cache.v, cache.layout, view.v.scale);
  view.table = planned.tables[i];
  view.page_size = format.page_size;
  view.num_pages = static_cast<std::int32_t>(std::min<std::int64_t>(cache.k.dim(0), INT32_MAX));
  view.by_index = format.by_index;
}

/// An output lies apart from everything that is read: a worker may write its rows while another still reads. (Lengths are read by plan()
/// alone; the tables of a planned mask are not known here.)
void check_output_apart(const PlannedBatch& planned, const RunArgs& args, const Argument& name, const TensorView& output) {
  check_apart(name, output, argument("q"), args.q);
  for (std::size_t i = 0; i < args.kv.size(); ++i) {
    check_apart(name, output, argument(i, "k"), args.kv[i].k);
    check_apart(name, output, argument(i, "v"), args.kv[i].v);
    check_apart(name, output, argument(i, "k_scale"), args.kv[i].k_scale.tensor);
    check_apart(name, output, argument(i, "v_scale"), args.kv[i].v_scale.tensor);
    check_apart(name, output, argument(i, planned.page_ids[i].ndim == 2 ? "page_table" : "page_indices"), planned.page_ids[i]);
  }
  const auto check_values = [&](std::string_view owner, Values values) {
    for (const Value& value : values) {
      if (const TensorView* table = std::get_if<TensorView>(&value.value); table != nullptr) {
        check_apart(name, output, {"run", owner, -1, value.name}, *table);
      }
    }
  };
  check_values("params", args.params);
  check_values("mask", args.mask.has_value() ? args.mask->values : Values{});
}

/// sm_scale, which has to be finite with q_scale too.
float checked_scale(const Problem& problem, const RunArgs& args) {
  if (args.sm_scale.has_value()) {
    FOVEA_CHECK(std::isfinite(*args.sm_scale), "run: sm_scale = {}; it must be finite", *args.sm_scale);
  }
  FOVEA_CHECK(std::isfinite(args.q_scale), "run: q_scale = {}; it must be finite", args.q_scale);
  const float sm_scale = args.sm_scale.value_or(1.0f / std::sqrt(static_cast<float>(problem.spec.head_dim_qk)));
  FOVEA_CHECK(std::isfinite(sm_scale * args.q_scale), "run: sm_scale = {} times q_scale = {} is not a finite float", sm_scale,
              args.q_scale);
  return sm_scale;
}

}  // namespace

void check_run(const Problem& problem, const VariantInfo& variant, const PlannedBatch& planned, const RunArgs& args, Device device,
               KernelParams& params) {
  const AttentionSpec& spec = problem.spec;
  check_rows(problem, planned, argument("q"), args.q, spec.head_dim_qk, device);
  check_dtype(argument("q"), args.q, spec.q_dtype);
  check_rows(problem, planned, argument("o"), args.o, spec.head_dim_vo, device);
  check_dtype(argument("o"), args.o, spec.o_dtype);
  check_writable(argument("o"), args.o);
  check_lse(problem, variant, planned, args, device);
  FOVEA_CHECK(args.kv.size() == spec.formats.size(), "run: kv has {} caches but the spec has {} formats", args.kv.size(),
              spec.formats.size());
  for (std::size_t i = 0; i < args.kv.size(); ++i) {
    check_kv(problem, planned, args, i, device, params.kv[i]);
  }
  check_apart(argument("o"), args.o, argument("lse"), args.lse);
  check_output_apart(planned, args, argument("o"), args.o);
  if (args.lse.defined()) {
    check_output_apart(planned, args, argument("lse"), args.lse);
  }
  // A query is dequantised before it is transformed; else its scale is part of the logits' scale.
  params.q_scale = variant.transforms_query ? args.q_scale : 1.0f;
  params.sm_scale = checked_scale(problem, args) * (variant.transforms_query ? 1.0f : args.q_scale);
  params.q = {.data = args.q.data, .token_stride = args.q.stride(0), .head_stride = args.q.stride(1), .dtype = args.q.dtype};
  params.out = {.o = args.o.data,
                .token_stride = args.o.stride(0),
                .head_stride = args.o.stride(1),
                .lse = args.lse.as<float>(),
                .lse_token_stride = args.lse.stride(0),
                .lse_head_stride = args.lse.stride(1),
                .dtype = args.o.dtype};
  params.num_formats = static_cast<std::int32_t>(args.kv.size());
  params.num_qo_heads = spec.num_qo_heads;
  params.num_kv_heads = spec.num_kv_heads;
  params.group_size = problem.group_size;
  params.head_dim_qk = spec.head_dim_qk;
  params.head_dim_vo = spec.head_dim_vo;
  params.write_states = args.output == Output::states;
  params.lse_base2 = args.lse_base2;
  params.lse_with_extra = args.lse_with_extra;
  params.kv_early = args.kv_early;
}

}  // namespace fovea
