// Vector loads and stores, dot products, weighted sums, panels and the online softmax of one instruction set, against double.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "backends/cpu/device/accumulate.h"
#include "backends/cpu/device/dot.h"
#include "backends/cpu/device/logits.h"
#include "backends/cpu/device/panel.h"
#include "backends/cpu/device/softmax.h"
#include "portable/convert.h"
#include "variants/sliding_window.h"
#include "variants/soft_cap.h"

namespace fovea::cpu::FOVEA_CPU_ISA {
namespace {

bool machine_runs_this() {
  if (kHasPairs && __builtin_cpu_supports("avx512bf16") == 0) {
    return false;
  }
  return kLanes == 16 ? __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0
                      : __builtin_cpu_supports("avx2") != 0;
}

class VectorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!machine_runs_this()) {
      GTEST_SKIP() << "this processor lacks the instruction set";
    }
  }
};

class DeviceTest : public VectorTest, public testing::WithParamInterface<DType> {};

/// `count` random elements of a dtype; a row is `stride` of them.
struct Elements {
  DType dtype;
  std::vector<unsigned char> bytes;

  Elements(DType type, int count, unsigned seed) : dtype(type), bytes(static_cast<std::size_t>(bytes_of(type, count))) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (int i = 0; i < count; ++i) {
      from_float(dtype, bytes.data(), i, normal(random));
    }
  }
  const void* at(int index) const { return bytes.data() + bytes_of(dtype, index); }
  double value(int index) const { return to_double(dtype, bytes.data(), index); }
};

std::vector<const void*> rows_of(const Elements& elements, int rows, int stride) {
  std::vector<const void*> pointers;
  for (int r = 0; r < rows; ++r) {
    pointers.push_back(elements.at(r * stride));
  }
  return pointers;
}

TEST_P(DeviceTest, LoadsEveryBitPatternAsConvertDoes) {
  const DType dtype = GetParam();
  const int patterns = row_of(dtype).bits == 8 ? 256 : 65536;
  Elements elements(dtype, patterns, 1);
  for (int i = 0; dtype != DType::f32 && i < patterns; ++i) {
    std::memcpy(elements.bytes.data() + bytes_of(dtype, i), &i, static_cast<std::size_t>(bytes_of(dtype, 1)));
  }
  float lanes[kLanes];
  for (int i = 0; i + kLanes <= patterns; i += kLanes) {
    with_dtype(dtype, [&]<DType D>() { store(lanes, load_as<D>(elements.at(i))); });
    for (int lane = 0; lane < kLanes; ++lane) {
      const float expected = to_float(dtype, elements.bytes.data(), i + lane);
      ASSERT_TRUE(lanes[lane] == expected || (std::isnan(lanes[lane]) && std::isnan(expected))) << i + lane;
      ASSERT_TRUE(std::isnan(expected) || std::signbit(lanes[lane]) == std::signbit(expected)) << i + lane;
    }
  }
}

TEST_P(DeviceTest, TailsReadNoMoreThanTheyHave) {
  const DType dtype = GetParam();
  const Elements elements(dtype, kLanes, 2);
  for (int count = 0; count <= kLanes; ++count) {
    std::vector<unsigned char> exact(elements.bytes.begin(), elements.bytes.begin() + bytes_of(dtype, count));
    float lanes[kLanes];
    with_dtype(dtype, [&]<DType D>() { store(lanes, load_first_as<D>(exact.data(), count)); });  // the sanitizer watches `exact`
    for (int lane = 0; lane < kLanes; ++lane) {
      EXPECT_EQ(lanes[lane], lane < count ? static_cast<float>(elements.value(lane)) : 0.0f) << count;
    }
  }
}

/// Calls `f` with every arithmetic of a dtype.
template <class F>
void for_each_arithmetic(DType dtype, F&& f) {
  with_arithmetic(dtype, false, f);
  if (kHasPairs && dtype == DType::bf16) {
    with_arithmetic(dtype, true, f);
  }
}

/// q rows or weights: numbers, and the arithmetic's elements nearest to them. `numbers` are what the elements hold.
template <class A>
struct Own {
  std::vector<typename A::Element> elements;
  std::vector<double> numbers;

  explicit Own(const std::vector<float>& from) : elements(from.size()), numbers(from.size()) {
    constexpr DType kOwn = A::kPerWord == 2 ? DType::bf16 : DType::f32;
    for (std::size_t i = 0; i < from.size(); ++i) {
      from_float(kOwn, elements.data(), static_cast<int>(i), from[i]);
      numbers[i] = to_double(kOwn, elements.data(), static_cast<int>(i));
    }
  }
};

/// q . k of any number of rows and dimensions by the function for few rows and by panels, against double.
template <class A>
void check_scores(DType dtype, int rows, int head_dim) {
  constexpr int kColumns = 32;
  const int stride = ceil_div(head_dim, 32) * 32;
  const Elements keys(dtype, kColumns * head_dim, 3);
  const std::vector<const void*> k_rows = rows_of(keys, kColumns, head_dim);
  std::vector<float> numbers(static_cast<std::size_t>(rows * stride)), panels(static_cast<std::size_t>(kColumns * stride));
  for (int i = 0; i < rows * stride; ++i) {
    numbers[static_cast<std::size_t>(i)] = i % stride < head_dim ? std::sin(static_cast<float>(i)) : 0.0f;
  }
  const Own<A> q(numbers);
  std::vector<float> few(static_cast<std::size_t>(rows * kColumns)), many = few;
  dot_rows<A>({.q = q.elements.data(),
               .q_stride = stride,
               .rows = rows,
               .k = {k_rows.data()},
               .column_begin = 0,
               .column_end = kColumns,
               .head_dim = head_dim,
               .scores = few.data(),
               .score_stride = kColumns,
               .ahead = nullptr});
  pack_k<A>({k_rows.data()}, kColumns, head_dim, panels.data(), nullptr);
  panel_product<typename A::Packed>({.a = q.elements.data(),
                                     .a_stride = stride,
                                     .panel = panels.data(),
                                     .depth = ceil_div(head_dim, A::kPerWord),
                                     .c = many.data(),
                                     .c_stride = kColumns,
                                     .adds = false},
                                    rows, kColumns / kPanel);
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      double expected = 0, magnitude = 0;
      for (int d = 0; d < head_dim; ++d) {
        const double product = q.numbers[static_cast<std::size_t>(r * stride + d)] * keys.value(c * head_dim + d);
        expected += product;
        magnitude += std::fabs(product);
      }
      const std::size_t i = static_cast<std::size_t>(r * kColumns + c);
      ASSERT_NEAR(few[i], expected, 1e-6 * magnitude + 1e-30) << head_dim << " " << rows;
      ASSERT_NEAR(many[i], expected, 2e-6 * magnitude + 1e-30) << head_dim << " " << rows;
    }
  }
}

TEST_P(DeviceTest, ScoresOfAnySizeMatchDouble) {
  for (const int head_dim : {1, 5, 7, 8, 16, 24, 40, 64, 72, 128, 200}) {
    for (const int rows : {1, 2, 3, 4, 5, 8, 13}) {
      for_each_arithmetic(GetParam(), [&]<class A>() { check_scores<A>(GetParam(), rows, head_dim); });
    }
  }
}

/// o += weights . V, the same two ways.
template <class A>
void check_sums(DType dtype, int rows, int head_dim) {
  constexpr int kColumns = 32;
  const int stride = ceil_div(head_dim, 32) * 32;
  const Elements values(dtype, kColumns * head_dim, 4);
  const std::vector<const void*> v_rows = rows_of(values, kColumns, head_dim);
  std::vector<float> numbers(static_cast<std::size_t>(rows * kColumns));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = 0.5f + 0.5f * std::sin(static_cast<float>(i));
  }
  const Own<A> weights(numbers);
  for (int r = 0; r < rows; ++r) {
    narrow_weights<A>(numbers.data() + r * kColumns, kColumns);
    ASSERT_EQ(std::memcmp(numbers.data() + r * kColumns, weights.elements.data() + r * kColumns, kColumns * sizeof(typename A::Element)),
              0);
  }
  std::vector<float> few(static_cast<std::size_t>(rows * stride), 0.25f), panels(static_cast<std::size_t>(kColumns * stride));
  std::vector<float> many = few;
  accumulate_rows<A>({.weights = weights.elements.data(),
                      .weight_stride = kColumns,
                      .rows = rows,
                      .v = {v_rows.data()},
                      .column_begin = 0,
                      .column_end = kColumns,
                      .head_dim = head_dim,
                      .o = few.data(),
                      .o_stride = stride,
                      .ahead = nullptr});
  pack_v<A>({v_rows.data()}, kColumns, head_dim, panels.data(), nullptr);
  panel_product<typename A::Packed>({.a = weights.elements.data(),
                                     .a_stride = kColumns,
                                     .panel = panels.data(),
                                     .depth = kColumns / A::kPerWord,
                                     .c = many.data(),
                                     .c_stride = stride,
                                     .adds = true},
                                    rows, ceil_div(head_dim, kPanel));
  for (int r = 0; r < rows; ++r) {
    put_in_order<A>(few.data() + r * stride, stride);
    put_in_order<A>(many.data() + r * stride, stride);
    for (int d = 0; d < head_dim; ++d) {
      double expected = 0.25, magnitude = 0.25;
      for (int c = 0; c < kColumns; ++c) {
        const double product = weights.numbers[static_cast<std::size_t>(r * kColumns + c)] * values.value(c * head_dim + d);
        expected += product;
        magnitude += std::fabs(product);
      }
      const std::size_t at = static_cast<std::size_t>(r * stride + d);
      ASSERT_NEAR(few[at], expected, 2e-6 * magnitude) << head_dim << " " << rows;
      ASSERT_EQ(many[at], few[at]) << "both are one chain of multiply-adds in column order";
    }
  }
}

TEST_P(DeviceTest, WeightedSumsOfAnySizeMatchDouble) {
  for (const int head_dim : {1, 9, 16, 40, 64, 72, 128, 136}) {
    for (const int rows : {1, 2, 3, 4, 7, 12, 13, 25}) {
      for_each_arithmetic(GetParam(), [&]<class A>() { check_sums<A>(GetParam(), rows, head_dim); });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, DeviceTest, testing::Values(DType::f32, DType::f16, DType::bf16, DType::e4m3, DType::e5m2),
                         [](const auto& info) { return name_of(info.param); });

TEST_F(VectorTest, ExpIsRightToTwoUlp) {
  float lanes[kLanes];
  for (float x = 0.0f; x > -80.0f; x -= 0.00173f) {
    store(lanes, exp(broadcast(x)));
    const double expected = std::exp(double{x});
    ASSERT_NEAR(lanes[kLanes - 1], expected, expected * (2.4e-7 + 2e-8 * -x)) << x;
  }
  store(lanes, exp(broadcast(-std::numeric_limits<float>::infinity())));
  EXPECT_EQ(lanes[0], 0.0f);
  store(lanes, exp(broadcast(std::nanf(""))));
  EXPECT_TRUE(std::isnan(lanes[0]));
}

TEST_F(VectorTest, SumsDontDependOnTheirPlace) {
  float x[4 * kLanes];
  for (int i = 0; i < 4 * kLanes; ++i) {
    x[i] = std::sin(static_cast<float>(i)) * static_cast<float>(1 << (i % 20));
  }
  const Vec a = load(x), b = load(x + kLanes), c = load(x + 2 * kLanes);
  float first[4], last[4];
  _mm_storeu_ps(first, reduce_add(a, b, c, b));
  _mm_storeu_ps(last, reduce_add(b, c, b, a));
  EXPECT_EQ(first[0], last[3]);
  EXPECT_EQ(first[1], last[0]);
  EXPECT_EQ(first[2], last[1]);
  EXPECT_EQ(first[0], reduce_add(a));
}

TEST_F(VectorTest, StoresRoundToNearestEven) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    std::mt19937 random(6);
    for (int round = 0; round < 2000; ++round) {
      float lanes[kLanes];
      for (float& lane : lanes) {
        lane = math::bits_to_float(static_cast<uint32_t>(random()));
      }
      unsigned char actual[kLanes * 4] = {}, expected[kLanes * 4] = {};
      const int count = static_cast<int>(random() % (kLanes + 1));
      with_output_dtype(dtype, [&]<DType D>() { store_first_as<D>(actual, load(lanes), count); });
      for (int i = 0; i < count; ++i) {
        from_float(dtype, expected, i, lanes[i]);
        const float a = to_float(dtype, actual, i), e = to_float(dtype, expected, i);
        ASSERT_TRUE(a == e || (std::isnan(a) && std::isnan(e))) << lanes[i];
      }
      ASSERT_EQ(std::memcmp(actual + bytes_of(dtype, count), expected + bytes_of(dtype, count),
                            sizeof actual - static_cast<std::size_t>(bytes_of(dtype, count))),
                0);
    }
  }
}

/// One tile of scores with its table, full or with holes.
struct TileFixture {
  static constexpr int kRows = 3, kColumns = 64;
  std::vector<float> scores = std::vector<float>(kRows * kColumns), k_scale = std::vector<float>(kColumns, 1.0f);
  std::vector<int32_t> kv_pos = std::vector<int32_t>(kColumns), live = std::vector<int32_t>(kColumns, -1);
  std::vector<ItemRow> rows = std::vector<ItemRow>(kRows);
  ColumnTable table{};
  ScoreTile tile{};

  explicit TileFixture(bool full) {
    for (int i = 0; i < kRows * kColumns; ++i) {
      scores[static_cast<std::size_t>(i)] = 5.0f * std::sin(static_cast<float>(i));
    }
    for (int c = 0; c < kColumns; ++c) {
      kv_pos[static_cast<std::size_t>(c)] = c;
    }
    for (int r = 0; r < kRows; ++r) {
      rows[static_cast<std::size_t>(r)] = {.at = {.q_pos = 40 + r, .kv_len = 64}, .token = r, .col_end = kColumns};
    }
    table.k_scale = k_scale.data();
    table.kv_pos = kv_pos.data();
    table.live = live.data();
    table.full = full;
    tile = {.scores = scores.data(),
            .stride = kColumns,
            .num_rows = kRows,
            .num_columns = kColumns,
            .rows = rows.data(),
            .columns = &table,
            .scale = 0.37f,
            .k_scale_per_column = false,
            .by_index = false};
  }
};

using HookTest = VectorTest;

TEST_F(HookTest, MaskedLogitsAreThoseOfKeep) {
  TileFixture fixture(false);
  fixture.live[2] = 0;
  SlidingWindow::Mask mask{.window_left = 7, .num_sink_tokens = 4};
  SlidingWindow::Params params;
  const std::vector<float> scores = fixture.scores;
  make_logits<SlidingWindow>(fixture.tile, &mask, &params);
  for (int r = 0; r < TileFixture::kRows; ++r) {
    for (int c = 0; c < TileFixture::kColumns; ++c) {
      const std::size_t i = static_cast<std::size_t>(r * TileFixture::kColumns + c);
      const bool sees = c != 2 && c <= 40 + r && (c >= 40 + r - 7 || c < 4);
      EXPECT_EQ(fixture.scores[i], sees ? scores[i] * 0.37f : -std::numeric_limits<float>::infinity()) << r << " " << c;
    }
  }
}

TEST_F(HookTest, FullAndMixedTilesGiveTheSameBits) {
  TileFixture full(true), mixed(false);
  for (ItemRow& row : mixed.rows) {
    row.at.q_pos = 1000;
  }
  SoftCap::Mask mask;
  SoftCap::Params params{.cap = 3.0f};
  make_logits<SoftCap>(full.tile, &mask, &params);
  make_logits<SoftCap>(mixed.tile, &mask, &params);
  EXPECT_EQ(full.scores, mixed.scores);
  EXPECT_NEAR(full.scores[5], 3.0 * std::tanh(5.0 * std::sin(5.0) * 0.37 / 3.0), 1e-5);
}

TEST_F(HookTest, OnlineSoftmaxOverTwoTilesMatchesDouble) {
  TileFixture one(true), two(true);
  for (float& score : two.scores) {
    score += 3.0f;  // the maximum grows: sums and o are rescaled
  }
  std::vector<float> row_max(TileFixture::kRows, -std::numeric_limits<float>::infinity()), row_sum(TileFixture::kRows);
  std::vector<float> o(static_cast<std::size_t>(TileFixture::kRows * 32), 0.0f);
  const std::vector<float> first = one.scores, second = two.scores;
  const RunningRows running{.row_max = row_max.data(), .row_sum = row_sum.data(), .o = o.data(), .o_stride = 32};
  softmax_tile(one.tile, 0.37f, running);
  std::fill(o.begin(), o.end(), 1.0f);
  const std::vector<float> max_before = row_max;
  softmax_tile(two.tile, 0.37f, running);
  for (int r = 0; r < TileFixture::kRows; ++r) {
    double top = -1e30, sum = 0;
    for (int c = 0; c < TileFixture::kColumns; ++c) {
      const std::size_t i = static_cast<std::size_t>(r * TileFixture::kColumns + c);
      top = std::max({top, double{first[i]} * 0.37f, double{second[i]} * 0.37f});
    }
    for (int c = 0; c < TileFixture::kColumns; ++c) {
      const std::size_t i = static_cast<std::size_t>(r * TileFixture::kColumns + c);
      sum += std::exp(double{first[i]} * 0.37f - top) + std::exp(double{second[i]} * 0.37f - top);
      EXPECT_NEAR(two.scores[i], std::exp(double{second[i]} * 0.37f - top), 1e-6);
    }
    const std::size_t at = static_cast<std::size_t>(r);
    EXPECT_NEAR(row_max[at], top, 1e-6);
    EXPECT_NEAR(row_sum[at], sum, 1e-5 * sum);
    EXPECT_NEAR(o[at * 32], std::exp(double{max_before[at]} - top), 1e-6);
  }
}

TEST_F(HookTest, ARowThatSeesNothingStaysEmpty) {
  TileFixture fixture(true);
  std::fill(fixture.scores.begin(), fixture.scores.end(), -std::numeric_limits<float>::infinity());
  std::vector<float> row_max(TileFixture::kRows, -std::numeric_limits<float>::infinity()), row_sum(TileFixture::kRows), o(96, 0.0f);
  softmax_tile(fixture.tile, 1.0f, {.row_max = row_max.data(), .row_sum = row_sum.data(), .o = o.data(), .o_stride = 32});
  EXPECT_EQ(row_sum, std::vector<float>(TileFixture::kRows, 0.0f));
  EXPECT_EQ(fixture.scores, std::vector<float>(fixture.scores.size(), 0.0f));
}

}  // namespace
}  // namespace fovea::cpu::FOVEA_CPU_ISA
