// merge_states() against its formula, and against attention itself: states of pieces of the KV merge into the state of all of it.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "check/case.h"
#include "check/number.h"
#include "check/random.h"
#include "check/storage.h"
#include "tests/conformance/on_engine.h"
#include "tests/conformance/targets.h"

namespace fovea::check {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Sizes {
  int tokens, heads, head_dim, states;
};

/// States with gaps in their strides; every third lse is that of an empty state.
struct States {
  States(Random& random, const Sizes& sizes, DType dtype) : sizes(sizes) {
    for (int s = 0; s < sizes.states; ++s) {
      State state{.o = padded_tensor(memory, random, dtype, {sizes.tokens, sizes.heads, sizes.head_dim}),
                  .lse = padded_tensor(memory, random, DType::f32, {sizes.tokens, sizes.heads})};
      for (int row = 0; row < sizes.tokens * sizes.heads; ++row) {
        const bool empty = (row + s) % 3 == 0 || row % 7 == 0;  // every seventh row is empty in all states
        const int token = row / sizes.heads, head = row % sizes.heads;
        for (int i = 0; i < sizes.head_dim; ++i) {
          encode(dtype, state.o.data, token * state.o.stride(0) + head * state.o.stride(1) + i, empty ? 0.0 : random.normal());
        }
        lse_of(state, row) = empty ? -kInfinity : static_cast<float>(random.uniform(-20, 20));
      }
      states.push_back(state);
    }
  }

  float& lse_of(const State& state, int row) const {
    return state.lse.as<float>()[row / sizes.heads * state.lse.stride(0) + row % sizes.heads * state.lse.stride(1)];
  }
  double o_of(const State& state, int row, int i) const {
    return decode(state.o.dtype, state.o.data, row / sizes.heads * state.o.stride(0) + row % sizes.heads * state.o.stride(1) + i);
  }
  double merged_lse(int row) const {
    double sum = 0;
    for (const State& state : states) {
      sum += std::exp(double{lse_of(state, row)});
    }
    return std::log(sum);
  }
  double merged_o(int row, int i) const {
    double o = 0, sum = 0;
    for (const State& state : states) {
      const double weight = std::exp(double{lse_of(state, row)});
      o += weight * o_of(state, row, i);
      sum += weight;
    }
    return sum > 0 ? o / sum : 0;
  }

  Sizes sizes;
  Memory memory;
  std::vector<State> states;
};

void merge_on(const Engine& engine, std::span<const State> states, const State& out) {
  OnEngine on(engine);
  std::vector<State> moved;
  for (const State& state : states) {
    moved.push_back(on(state));
  }
  engine.merge_states(moved, on(out));
  on.fetch();
}

class MergeStates : public testing::TestWithParam<Target> {};

TEST_P(MergeStates, IsTheFormula) {
  const Engine engine(GetParam().options);
  Random random(3, 0);
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const Sizes& sizes : {Sizes{1, 1, 8, 2}, Sizes{5, 3, 40, 1}, Sizes{7, 4, 128, 2}, Sizes{3, 2, 72, 5}, Sizes{2, 2, 64, 64}}) {
      for (const bool in_place : {false, true}) {
        States in(random, sizes, dtype);
        std::vector<double> o, lse;
        for (int row = 0; row < sizes.tokens * sizes.heads; ++row) {
          lse.push_back(in.merged_lse(row));
          for (int i = 0; i < sizes.head_dim; ++i) {
            o.push_back(in.merged_o(row, i));
          }
        }
        const State fresh{.o = padded_tensor(in.memory, random, dtype, {sizes.tokens, sizes.heads, sizes.head_dim}),
                          .lse = padded_tensor(in.memory, random, DType::f32, {sizes.tokens, sizes.heads})};
        const State out = in_place ? in.states.back() : fresh;
        merge_on(engine, in.states, out);
        for (int row = 0; row < sizes.tokens * sizes.heads; ++row) {
          const double expected = lse[static_cast<std::size_t>(row)];
          const double got = in.lse_of(out, row);
          ASSERT_TRUE(expected == got || std::fabs(got - expected) < 1e-6 * (1 + std::fabs(expected)))
              << "lse " << got << ", expected " << expected;
          for (int i = 0; i < sizes.head_dim; ++i) {
            const double value = o[static_cast<std::size_t>(row * sizes.head_dim + i)];
            // An lse of 20 as a float is off by 1e-6, and so are weights made of it.
            ASSERT_NEAR(in.o_of(out, row, i), value, ulp_at(dtype, value) + 4e-6) << name_of(dtype) << ", row " << row << ", element " << i;
          }
        }
      }
    }
  }
}

/// The keys of one request, cut into pieces: states of the pieces, merged, are the state of the whole.
TEST_P(MergeStates, PiecesMergeIntoTheWhole) {
  constexpr int kHeads = 4, kDim = 64, kTokens = 500, kRows = 3;
  Random random(5, 0);
  std::vector<float> q(kRows * kHeads * kDim), k(kTokens * kHeads * kDim), v(k.size());
  for (std::vector<float>* values : {&q, &k, &v}) {
    for (float& value : *values) {
      value = static_cast<float>(random.normal());
    }
  }
  const Engine engine(GetParam().options);
  const AttentionSpec spec{.num_qo_heads = kHeads,
                           .num_kv_heads = kHeads,
                           .head_dim_qk = kDim,
                           .q_dtype = DType::f32,
                           .k_dtype = DType::f32,
                           .v_dtype = DType::f32,
                           .o_dtype = DType::f32,
                           .variant = "full",
                           .formats = {KvFormat::ragged()}};
  const Attention attention = engine.prepare(spec, {.max_requests = 1, .max_query_tokens = kRows, .max_kv_tokens_per_request = kTokens});
  Plan plan = attention.new_plan();
  const auto state_of = [&](int begin, int end, std::vector<float>& o, std::vector<float>& lse) {
    o.assign(kRows * kHeads * kDim, NAN);
    lse.assign(kRows * kHeads, NAN);
    const std::vector<std::int32_t> qo_indptr{0, kRows}, kv_indptr{0, end - begin};
    const KvTables tables = KvTables::ragged(TensorView::of(kv_indptr));
    KvCache cache;
    cache.k = TensorView::contiguous(k.data() + begin * kHeads * kDim, DType::f32, {end - begin, kHeads, kDim});
    cache.v = TensorView::contiguous(v.data() + begin * kHeads * kDim, DType::f32, {end - begin, kHeads, kDim});
    attention.plan(plan, {.qo_indptr = TensorView::of(qo_indptr), .kv = {&tables, 1}});
    const State state{.o = TensorView::contiguous(o.data(), DType::f32, {kRows, kHeads, kDim}),
                      .lse = TensorView::contiguous(lse.data(), DType::f32, {kRows, kHeads})};
    OnEngine on(engine);
    attention.run(plan, on(RunArgs{.q = TensorView::contiguous(q.data(), DType::f32, {kRows, kHeads, kDim}),
                                   .kv = {&cache, 1},
                                   .o = state.o,
                                   .lse = state.lse,
                                   .output = Output::states}));
    on.fetch();
    return state;
  };
  std::vector<float> o[4], lse[4];
  const State whole = state_of(0, kTokens, o[3], lse[3]);
  const State pieces[] = {state_of(0, 123, o[0], lse[0]), state_of(123, 123, o[1], lse[1]), state_of(123, kTokens, o[2], lse[2])};
  EXPECT_EQ(lse[1][0], -kInfinity) << "a piece without keys is the empty state";
  merge_on(engine, pieces, pieces[0]);
  for (std::size_t i = 0; i < o[3].size(); ++i) {
    ASSERT_NEAR(o[0][i], o[3][i], 2e-6);
  }
  for (std::size_t i = 0; i < lse[3].size(); ++i) {
    ASSERT_NEAR(lse[0][i], lse[3][i], 2e-6);
  }
  EXPECT_EQ(whole.o.data, o[3].data());
}

INSTANTIATE_TEST_SUITE_P(All, MergeStates, testing::ValuesIn(device_targets()), name_of_target);

}  // namespace
}  // namespace fovea::check
