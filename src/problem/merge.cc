// check_merge_states: states with the same rows and heads.
#include "src/problem/problem.h"
#include "src/problem/tensor_check.h"

namespace fovea {
namespace {

Argument argument(std::size_t i, std::string_view field) { return {"merge_states", "states", static_cast<int>(i), field}; }
Argument argument(std::string_view field) { return {"merge_states", "out", -1, field}; }

struct StateRule {
  std::int64_t tokens, heads, head_dim;
  Device device;
};

void check_state(const StateRule& rule, const Argument& name, const State& state) {
  check_tensor(name.of("o"), state.o, 3, "[tokens, heads, head_dim]", rule.device);
  check_wide_dtype(name.of("o"), state.o);
  check_innermost(name.of("o"), state.o);
  FOVEA_CHECK(state.o.dim(0) == rule.tokens && state.o.dim(1) == rule.heads && state.o.dim(2) == rule.head_dim,
              "merge_states: {} is [{}, {}, {}] but states[0].o is [{}, {}, {}]", name.of("o"), state.o.dim(0), state.o.dim(1),
              state.o.dim(2), rule.tokens, rule.heads, rule.head_dim);
  check_tensor(name.of("lse"), state.lse, 2, "[tokens, heads]", rule.device);
  check_dtype(name.of("lse"), state.lse, DType::f32);
  FOVEA_CHECK(state.lse.dim(0) == rule.tokens && state.lse.dim(1) == rule.heads,
              "merge_states: {} is [{}, {}] but states[0].o has {} tokens and {} heads", name.of("lse"), state.lse.dim(0), state.lse.dim(1),
              rule.tokens, rule.heads);
}

/// `out` is written row by row, after that row of every state has been read: being a state itself does no harm, overlapping one in another
/// way does.
void check_aliasing(std::size_t i, const State& state, const State& out) {
  if (!same_view(state.o, out.o)) {
    check_apart(argument("o"), out.o, argument(i, "o"), state.o);
  }
  if (!same_view(state.lse, out.lse)) {
    check_apart(argument("lse"), out.lse, argument(i, "lse"), state.lse);
  }
  check_apart(argument("o"), out.o, argument(i, "lse"), state.lse);
  check_apart(argument("lse"), out.lse, argument(i, "o"), state.o);
}

}  // namespace

MergeStatesParams check_merge_states(std::span<const State> states, const State& out, Device device) {
  FOVEA_CHECK(!states.empty() && states.size() <= kMaxStates, "merge_states: {} states; it takes 1 to {}", states.size(), kMaxStates);
  check_tensor(argument(0, "o"), states[0].o, 3, "[tokens, heads, head_dim]", device);
  const StateRule rule{states[0].o.dim(0), states[0].o.dim(1), states[0].o.dim(2), device};
  FOVEA_CHECK(rule.tokens < 1 << 29 && rule.heads <= 32768 && rule.head_dim <= kMaxHeadDim,
              "merge_states: states[0].o is [{}, {}, {}]; at most [{}, 32768, 1024]", rule.tokens, rule.heads, rule.head_dim,
              (1 << 29) - 1);
  MergeStatesParams params{};
  for (std::size_t i = 0; i < states.size(); ++i) {
    const State& state = states[i];
    check_state(rule, argument(i, ""), state);
    params.states[i] = {
        .o = {.data = state.o.data, .token_stride = state.o.stride(0), .head_stride = state.o.stride(1), .dtype = state.o.dtype},
        .lse = state.lse.as<const float>(),
        .lse_token_stride = state.lse.stride(0),
        .lse_head_stride = state.lse.stride(1)};
  }
  check_state(rule, argument(""), out);
  check_writable(argument("o"), out.o);
  check_writable(argument("lse"), out.lse);
  check_apart(argument("o"), out.o, argument("lse"), out.lse);
  for (std::size_t i = 0; i < states.size(); ++i) {
    check_aliasing(i, states[i], out);
  }
  params.num_states = static_cast<std::int32_t>(states.size());
  params.out = {.o = out.o.data,
                .token_stride = out.o.stride(0),
                .head_stride = out.o.stride(1),
                .lse = out.lse.as<float>(),
                .lse_token_stride = out.lse.stride(0),
                .lse_head_stride = out.lse.stride(1),
                .dtype = out.o.dtype};
  params.num_tokens = static_cast<std::int32_t>(rule.tokens);
  params.num_heads = static_cast<std::int32_t>(rule.heads);
  params.head_dim = static_cast<std::int32_t>(rule.head_dim);
  return params;
}

}  // namespace fovea
