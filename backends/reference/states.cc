// merge_states() in double: every state at once, so that the result does not depend on an order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backends/reference/backend.h"
#include "portable/convert.h"

namespace fovea::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

void merge_row(const MergeStatesParams& p, int32_t token, int32_t head) {
  double top = -kInfinity;
  const auto lse_of = [&](int32_t s) {
    const MergeStatesParams::In& in = p.states[s];
    return double{in.lse[token * in.lse_token_stride + head * in.lse_head_stride]};
  };
  for (int32_t s = 0; s < p.num_states; ++s) {
    top = std::max(top, lse_of(s));
  }
  std::vector<double> o(static_cast<std::size_t>(p.head_dim));
  double sum = 0;
  for (int32_t s = 0; s < p.num_states; ++s) {
    if (lse_of(s) == -kInfinity) {
      continue;  // an empty state weighs nothing, whatever its o
    }
    const double weight = std::exp(lse_of(s) - top);
    sum += weight;
    const QView& in = p.states[s].o;
    for (int32_t i = 0; i < p.head_dim; ++i) {
      o[i] += weight * to_double(in.dtype, in.data, token * in.token_stride + head * in.head_stride + i);
    }
  }
  const bool empty = sum == 0;  // every state is; NaN is not 0 and comes out
  // Written last: `out` may be one of the states.
  for (int32_t i = 0; i < p.head_dim; ++i) {
    from_double(p.out.dtype, p.out.o, token * p.out.token_stride + head * p.out.head_stride + i, empty ? 0.0 : o[i] / sum);
  }
  p.out.lse[token * p.out.lse_token_stride + head * p.out.lse_head_stride] = static_cast<float>(empty ? -kInfinity : top + std::log(sum));
}

}  // namespace

void merge_states(const MergeStatesParams& p) {
  for (int32_t token = 0; token < p.num_tokens; ++token) {
    for (int32_t head = 0; head < p.num_heads; ++head) {
      merge_row(p, token, head);
    }
  }
}

}  // namespace fovea::reference
