#include "check/oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "check/number.h"
#include "fovea/error.h"

namespace fovea::check {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// How a computation rounds. f32 for both is plain float.
struct Rounding {
  DType stored = DType::f32;
  DType output = DType::f32;
};

struct Key {
  int pool;
  std::int64_t token;
  int q_pos, kv_pos;
};

/// Positions outside of the request have the id of its nearest token.
bool same_document(const std::vector<int>& documents, int q_pos, int kv_pos) {
  const int last = static_cast<int>(documents.size()) - 1;
  const auto id = [&](int position) { return documents[static_cast<std::size_t>(std::clamp(position, 0, last))]; };
  return id(q_pos) == id(kv_pos);
}

std::vector<std::vector<const DenseGroup*>> groups_by_row(const Case& c) {
  std::vector<std::vector<const DenseGroup*>> groups(static_cast<std::size_t>(c.num_rows()));
  for (const DenseGroup& group : c.groups) {
    for (const int row : group.rows) {
      groups[static_cast<std::size_t>(row)].push_back(&group);
    }
  }
  return groups;
}

std::vector<Key> keys_of(const Case& c, const std::vector<const DenseGroup*>& groups, int row, int kv_head) {
  const int request_index = c.request_of_row[static_cast<std::size_t>(row)];
  const DenseRequest& request = c.requests[static_cast<std::size_t>(request_index)];
  const int qo_idx = row - request.qo_begin;
  std::vector<Key> keys;
  for (const DenseGroup* group : groups) {
    if (group->kv_head >= 0 && group->kv_head != kv_head) {
      continue;
    }
    for (std::size_t column = 0; column < group->tokens.size(); ++column) {
      const int kv_pos = group->positions[column];
      if ((group->by_index && kv_pos >= request.kv_len) || !sees(c, request_index, qo_idx, request.q_pos + qo_idx, kv_pos)) {
        continue;
      }
      if (group->tokens[column] < 0) {
        throw InternalError("check: a row sees a column that the generator gave no page");
      }
      keys.push_back({group->pool, group->tokens[column], request.q_pos + qo_idx, kv_pos});
    }
  }
  return keys;
}

/// One row and head in numbers of type N.
template <class N>
class RowComputation {
 public:
  RowComputation(const Case& c, const Rounding& rounding, Dense& result) : c_(c), rounding_(rounding), result_(result) {}

  void compute(const std::vector<Key>& keys, int row, int head) {
    const std::size_t at = static_cast<std::size_t>(row * c_.spec.num_qo_heads + head);
    const int kv_head = head / c_.group_size();
    std::vector<N> weights;
    N top = -std::numeric_limits<N>::infinity();
    for (const Key& key : keys) {
      weights.push_back(logit(key, at, head));
      top = std::max(top, weights.back());
    }
    if (keys.empty()) {
      return;
    }
    if (c_.rule.temperature) {  // errors of a dot product grow with it
      result_.logit_magnitude[at] *= std::max(1.0, static_cast<double>(temperature_factor(keys.front().q_pos)));
    }
    N sum = 1;
    if (c_.rule.use_softmax()) {
      const bool states = c_.run.output == Output::states;
      sum = 0;
      for (N& weight : weights) {
        weight = std::exp(weight - top);
        sum += weight;
      }
      result_.lse[at] = result_.lse_with_extra[at] = static_cast<double>(top + std::log(sum));
      if (!c_.rule.sink.empty()) {
        const N both = std::max(top, N(c_.rule.sink[static_cast<std::size_t>(head)]));
        result_.largest_logit[at] =
            std::max(result_.largest_logit[at], static_cast<double>(std::fabs(c_.rule.sink[static_cast<std::size_t>(head)])));
        const N with_extra = sum * std::exp(top - both) + std::exp(N(c_.rule.sink[static_cast<std::size_t>(head)]) - both);
        result_.lse_with_extra[at] = static_cast<double>(both + std::log(with_extra));
        sum = states ? sum : with_extra / std::exp(top - both);
      }
    }
    accumulate(keys, weights, sum, at, kv_head);
  }

 private:
  N stored(N x) const { return rounding_.stored == DType::f32 ? x : static_cast<N>(round_to(rounding_.stored, static_cast<double>(x))); }

  N logit(const Key& key, std::size_t at, int head) {
    const int kv_head = head / c_.group_size();
    const std::size_t dim = static_cast<std::size_t>(c_.spec.head_dim_qk);
    const double* q = c_.q.data() + at * dim;
    const double* k =
        c_.pools[static_cast<std::size_t>(key.pool)].k.data() + static_cast<std::size_t>(key.token * c_.spec.num_kv_heads + kv_head) * dim;
    N dot = 0, magnitude = 0;
    if (c_.rule.rope) {
      turn(q, key.q_pos, turned_q_);
      turn(k, key.kv_pos, turned_k_);
      for (std::size_t i = 0; i < dim; ++i) {
        dot += turned_q_[i] * turned_k_[i];
      }
      // Turning a pair is off by a few roundings of its length, whatever the products come to.
      magnitude = kRopeRoundings * lengths(q, k, dim);
    } else {
      for (std::size_t i = 0; i < dim; ++i) {
        dot += static_cast<N>(q[i]) * static_cast<N>(k[i]);
        magnitude += std::fabs(static_cast<N>(q[i]) * static_cast<N>(k[i]));
      }
    }
    const N scale = static_cast<N>(c_.sm_scale);
    result_.logit_magnitude[at] = std::max(result_.logit_magnitude[at], static_cast<double>(magnitude * scale));
    N x = stored(dot * scale);
    note_size(at, x);
    for (const LogitTransform transform : c_.rule.transforms) {
      x = transformed(transform, x, key, at, head);
    }
    return x;
  }

  // Both vectors of a dot product: 3 roundings, and 4 of a computed cosine or sine, each.
  static constexpr N kRopeRoundings = 14;

  static N lengths(const double* q, const double* k, std::size_t dim) {
    double of_q = 0, of_k = 0;
    for (std::size_t i = 0; i < dim; ++i) {
      of_q += q[i] * q[i];
      of_k += k[i] * k[i];
    }
    return static_cast<N>(std::sqrt(of_q * of_k));
  }

  /// Cosines, then sines, of a position's pairs.
  const std::vector<N>& angles(int position) {
    std::vector<N>& angles = angles_[position];
    const Rope& rope = *c_.rule.rope;
    const int n = rope.num_turned, rows = static_cast<int>(rope.cos_sin.size()) / n;
    for (int i = 0; angles.size() < static_cast<std::size_t>(n); ++i) {
      if (rows > 0) {
        angles.push_back(static_cast<N>(rope.cos_sin[static_cast<std::size_t>(std::clamp(position, 0, rows - 1) * n + i)]));
      } else {
        const double angle = position * rope.frequency(i % (n / 2));
        angles.push_back(static_cast<N>(i < n / 2 ? std::cos(angle) : std::sin(angle)));
      }
    }
    return angles;
  }

  void turn(const double* x, int position, std::vector<N>& turned) {
    const Rope& rope = *c_.rule.rope;
    const std::vector<N>& cos_sin = angles(position);
    const std::size_t half = static_cast<std::size_t>(rope.num_turned / 2);
    turned.assign(x, x + c_.spec.head_dim_qk);
    for (std::size_t i = 0; i < half; ++i) {
      const std::size_t first = rope.adjacent ? 2 * i : i, second = rope.adjacent ? 2 * i + 1 : i + half;
      const N a = static_cast<N>(x[first]), b = static_cast<N>(x[second]);
      turned[first] = a * cos_sin[i] - b * cos_sin[i + half];
      turned[second] = a * cos_sin[i + half] + b * cos_sin[i];
    }
  }

  N transformed(LogitTransform transform, N x, const Key& key, std::size_t at, int head) {
    const Rule& rule = c_.rule;
    switch (transform) {
      case LogitTransform::cap:
        return N(*rule.cap) * std::tanh(x / N(*rule.cap));
      case LogitTransform::alibi: {
        const N bias = N(rule.slopes[static_cast<std::size_t>(head)]) * N(key.kv_pos - key.q_pos);
        note_size(at, bias);
        note_size(at, x + bias);
        return x + bias;
      }
      case LogitTransform::temperature: {
        const N product = x * temperature_factor(key.q_pos);
        note_size(at, product);
        return product;
      }
      case LogitTransform::sigmoid:
        note_size(at, x + N(*rule.sigmoid_bias));
        return N(1) / (N(1) + std::exp(-(x + N(*rule.sigmoid_bias))));
    }
    return x;
  }

  N temperature_factor(int q_pos) const {
    const Temperature& t = *c_.rule.temperature;
    return (1 + N(t.position_scale) * std::log(N(1 + (std::max(q_pos, 0) + 1) / t.position_step))) / N(t.temperature);
  }

  void note_size(std::size_t at, N exponent) {
    result_.largest_logit[at] = std::max(result_.largest_logit[at], static_cast<double>(std::fabs(exponent)));
  }

  void accumulate(const std::vector<Key>& keys, const std::vector<N>& weights, N sum, std::size_t at, int kv_head) {
    const std::size_t dim = static_cast<std::size_t>(c_.spec.head_dim_vo);
    std::vector<N> o(dim, N(0)), magnitude(dim, N(0)), spread(dim, N(0));
    for (std::size_t j = 0; j < keys.size(); ++j) {
      const double* v = c_.pools[static_cast<std::size_t>(keys[j].pool)].v.data() +
                        static_cast<std::size_t>(keys[j].token * c_.spec.num_kv_heads + kv_head) * dim;
      const N weight = stored(weights[j] / sum);
      for (std::size_t i = 0; i < dim; ++i) {
        o[i] += weight * static_cast<N>(v[i]);
        magnitude[i] += weight * std::fabs(static_cast<N>(v[i]));
        spread[i] += weight * weight * static_cast<N>(v[i]) * static_cast<N>(v[i]);
      }
    }
    for (std::size_t i = 0; i < dim; ++i) {
      const double value = static_cast<double>(o[i]);
      result_.o[at * dim + i] = rounding_.output == DType::f32 ? value : round_to(rounding_.output, value);
      result_.o_magnitude[at * dim + i] = static_cast<double>(magnitude[i]);
      result_.o_spread[at * dim + i] = std::sqrt(static_cast<double>(spread[i]));
    }
  }

  const Case& c_;
  const Rounding rounding_;
  Dense& result_;
  std::map<int, std::vector<N>> angles_;
  std::vector<N> turned_q_, turned_k_;
};

template <class N>
Dense compute(const Case& c, const Rounding& rounding) {
  const std::size_t rows = static_cast<std::size_t>(c.num_rows()), heads = static_cast<std::size_t>(c.spec.num_qo_heads);
  const std::size_t elements = rows * heads * static_cast<std::size_t>(c.spec.head_dim_vo);
  Dense result{.o = std::vector<double>(elements, 0.0),
               .o_magnitude = std::vector<double>(elements, 0.0),
               .o_spread = std::vector<double>(elements, 0.0),
               .lse = std::vector<double>(rows * heads, -kInfinity),
               .lse_with_extra = std::vector<double>(rows * heads, -kInfinity),
               .largest_logit = std::vector<double>(rows * heads, 0.0),
               .logit_magnitude = std::vector<double>(rows * heads, 0.0)};
  const std::vector<std::vector<const DenseGroup*>> groups = groups_by_row(c);
  RowComputation<N> computation(c, rounding, result);
  for (int row = 0; row < c.num_rows(); ++row) {
    for (int kv_head = 0; kv_head < c.spec.num_kv_heads; ++kv_head) {
      const std::vector<Key> keys = keys_of(c, groups[static_cast<std::size_t>(row)], row, kv_head);
      for (int head = kv_head * c.group_size(); head < (kv_head + 1) * c.group_size(); ++head) {
        computation.compute(keys, row, head);
      }
    }
  }
  return result;
}

}  // namespace

bool sees(const Case& c, int request, int qo_idx, int q_pos, int kv_pos) {
  const Rule& rule = c.rule;
  if ((rule.causal || rule.window_left || rule.chunk_size) && kv_pos > q_pos) {
    return false;
  }
  // A chunk is floor(position / chunk_size); a query at a negative position sees nothing, being causal.
  if (rule.chunk_size && q_pos - q_pos % *rule.chunk_size != kv_pos - kv_pos % *rule.chunk_size) {
    return false;
  }
  if (!rule.prefix_len.empty() && kv_pos > q_pos && kv_pos >= rule.prefix_len[static_cast<std::size_t>(request)]) {
    return false;
  }
  if (!rule.documents.empty() && !same_document(rule.documents[static_cast<std::size_t>(request)], q_pos, kv_pos)) {
    return false;
  }
  if (rule.window_left && kv_pos < q_pos - *rule.window_left && kv_pos >= rule.num_sink_tokens) {
    return false;
  }
  if (!rule.bits.empty()) {
    const int kv_len = c.requests[static_cast<std::size_t>(request)].kv_len;
    if (kv_pos >= kv_len) {
      throw InternalError("check: a custom mask has no bit for a key past kv_len");
    }
    return rule.bits[static_cast<std::size_t>(request)][static_cast<std::size_t>(qo_idx * kv_len + kv_pos)] != 0;
  }
  return true;
}

Dense exact_result(const Case& c) { return compute<double>(c, {}); }

Dense plain_result(const Case& c) { return compute<float>(c, {.stored = stored_dtype(c), .output = c.spec.o_dtype}); }

DType stored_dtype(const Case& c) {
  // Nobody keeps weights in 8 bits: with such queries the output's dtype says how exact a computation is meant to be.
  return row_of(c.spec.q_dtype).bits > 8 ? c.spec.q_dtype : c.spec.o_dtype;
}

}  // namespace fovea::check
