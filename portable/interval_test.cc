// Interval arithmetic and lookups against the definition: every number of every interval.
#include "portable/interval.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "portable/table.h"

namespace fovea {
namespace {

class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) {}
  std::int32_t in(std::int32_t lo, std::int32_t hi) { return std::uniform_int_distribution<std::int32_t>(lo, hi)(random_); }
  bool one_in(int n) { return in(1, n) == 1; }
  Interval interval(std::int32_t lo, std::int32_t hi) {
    const std::int32_t a = in(lo, hi);
    return {a, one_in(4) ? a : std::min(hi, a + in(0, 9))};
  }

 private:
  std::mt19937 random_;
};

template <class Op>
void expect_exact_number(Interval a, Interval b, const Op& op, const char* name) {
  std::int32_t lo = kHighestInt, hi = kLowestInt;
  for (std::int32_t x = a.lo; x <= a.hi; ++x) {
    for (std::int32_t y = b.lo; y <= b.hi; ++y) {
      lo = std::min<std::int32_t>(lo, op(x, y));
      hi = std::max<std::int32_t>(hi, op(x, y));
    }
  }
  const Interval answer = op(a, b);
  ASSERT_EQ(answer.lo, lo) << name << " [" << a.lo << ", " << a.hi << "] [" << b.lo << ", " << b.hi << "]";
  ASSERT_EQ(answer.hi, hi) << name << " [" << a.lo << ", " << a.hi << "] [" << b.lo << ", " << b.hi << "]";
}

template <class Op>
void expect_exact_truth(Interval a, Interval b, const Op& op, const char* name) {
  bool any = false, all = true;
  for (std::int32_t x = a.lo; x <= a.hi; ++x) {
    for (std::int32_t y = b.lo; y <= b.hi; ++y) {
      any |= op(x, y);
      all &= op(x, y);
    }
  }
  const Tri answer = op(a, b);
  ASSERT_EQ(answer.may, any) << name;
  ASSERT_EQ(answer.must, all) << name;
}

TEST(Interval, EveryOperationIsTheHullOfItsElements) {
  Draw draw(1);
  for (int n = 0; n < 20000; ++n) {
    const Interval a = draw.interval(-20, 20), b = draw.interval(-20, 20);
    expect_exact_number(
        a, b, [](auto x, auto y) { return x + y; }, "+");
    expect_exact_number(
        a, b, [](auto x, auto y) { return x - y; }, "-");
    expect_exact_number(
        a, b, [](auto x, auto y) { return x * y; }, "*");
    expect_exact_number(
        a, b, [](auto x, auto y) { return min_(x, y); }, "min_");
    expect_exact_number(
        a, b, [](auto x, auto y) { return max_(x, y); }, "max_");
    expect_exact_number(
        a, b, [](auto x, auto) { return abs_(x); }, "abs_");
    expect_exact_number(
        a, b, [](auto x, auto) { return -x; }, "negation");
    expect_exact_truth(
        a, b, [](auto x, auto y) { return x < y; }, "<");
    expect_exact_truth(
        a, b, [](auto x, auto y) { return x <= y; }, "<=");
    expect_exact_truth(
        a, b, [](auto x, auto y) { return x > y; }, ">");
    expect_exact_truth(
        a, b, [](auto x, auto y) { return x >= y; }, ">=");
    expect_exact_truth(
        a, b, [](auto x, auto y) { return x == y; }, "==");
    expect_exact_truth(
        a, b, [](auto x, auto y) { return x != y; }, "!=");
  }
}

TEST(Interval, DivisionByAConstantIsTheHullOfItsElements) {
  Draw draw(2);
  for (int n = 0; n < 20000; ++n) {
    const Interval a = draw.interval(-40, 40);
    const std::int32_t by = draw.in(1, 9);
    expect_exact_number(
        a, by, [](auto x, auto y) { return x / y; }, "/");
    if (a.lo / by == a.hi / by || a.hi - a.lo < 2 || a.lo >= 0) {
      // Over several periods of positive numbers the remainder takes its ends, unless the interval cuts them: then the hull is the loss.
      const Interval answer = a % Interval(by);
      for (std::int32_t x = a.lo; x <= a.hi; ++x) {
        ASSERT_TRUE(answer.lo <= x % by && x % by <= answer.hi) << x << " % " << by;
      }
      if (a.lo / by == a.hi / by) {
        expect_exact_number(
            a, by, [](auto x, auto y) { return x % y; }, "%");
      }
    }
  }
  EXPECT_EQ((Interval{0, 5} / Interval{0, 2}).lo, kLowestInt) << "a divisor that may be zero: anything";
  EXPECT_EQ((Interval{0, 5} % Interval(-3)).hi, kHighestInt);
}

TEST(Interval, BoundsStopAtTheEndsOfTheirType) {
  EXPECT_EQ((Interval(kHighestInt) + Interval(1)).hi, kHighestInt);
  EXPECT_EQ((Interval(kLowestInt) - Interval(1)).lo, kLowestInt);
  EXPECT_EQ((Interval(kLowestInt) * Interval(kLowestInt)).hi, kHighestInt);
  EXPECT_EQ((-Interval(kLowestInt)).hi, kHighestInt);
  EXPECT_EQ(abs_(kAnyInteger).lo, 0);
  EXPECT_EQ(abs_(kAnyInteger).hi, kHighestInt);
}

/// A random program of the vocabulary, evaluated on numbers or on intervals.
struct Program {
  enum Op { variable, constant, add, subtract, multiply, divide, remainder, lowest, highest, absolute, lookup, choose };
  Op op;
  std::int32_t number = 0;
  std::unique_ptr<Program> a, b;

  template <class I>
  I eval(const std::vector<I>& variables, Table<std::int32_t> table) const {
    const auto left = [&] { return a->eval(variables, table); };
    const auto right = [&] { return b->eval(variables, table); };
    switch (op) {
      case variable:
        return variables[static_cast<std::size_t>(number)];
      case constant:
        return I(number);
      case add:
        return left() + right();
      case subtract:
        return left() - right();
      case multiply:
        return left() * I(number);
      case divide:
        return left() / I(number);
      case remainder:
        return left() % I(number);
      case lowest:
        return min_(left(), right());
      case highest:
        return max_(left(), right());
      case absolute:
        return abs_(left());
      case lookup:
        return table[left()];
      case choose:
        return select(left() < right(), left(), right() + I(number));
    }
    return I(0);
  }
};

std::unique_ptr<Program> random_program(Draw& draw, int depth) {
  auto program = std::make_unique<Program>();
  program->op = depth == 0 ? static_cast<Program::Op>(draw.in(0, 1)) : static_cast<Program::Op>(draw.in(0, 11));
  program->number = program->op == Program::variable ? draw.in(0, 2) : draw.in(1, 7);
  if (program->op > Program::constant) {
    program->a = random_program(draw, depth - 1);
    program->b = random_program(draw, depth - 1);
  }
  return program;
}

TEST(Interval, AThousandRandomProgramsAreSound) {
  Draw draw(3);
  int decided = 0;
  std::vector<std::int32_t> numbers(23);
  for (int n = 0; n < 1000; ++n) {
    std::generate(numbers.begin(), numbers.end(), [&] { return draw.in(-9, 9); });
    const Table<std::int32_t> table{numbers.data(), static_cast<std::int32_t>(numbers.size())};
    const auto left = random_program(draw, 3), right = random_program(draw, 3);
    for (int tile = 0; tile < 10; ++tile) {
      const std::vector<Interval> bounds{draw.interval(-3, 25), draw.interval(-3, 25), draw.interval(0, 4)};
      const Interval value = left->eval(bounds, table);
      const Tri truth = (!(value < right->eval(bounds, table))) | (value == Interval(3));
      bool any = false, all = true;
      for (std::int32_t x = bounds[0].lo; x <= bounds[0].hi; ++x) {
        for (std::int32_t y = bounds[1].lo; y <= bounds[1].hi; ++y) {
          for (std::int32_t z = bounds[2].lo; z <= bounds[2].hi; ++z) {
            const std::vector<std::int32_t> at{x, y, z};
            const std::int32_t number = left->eval(at, table);
            ASSERT_TRUE(value.lo <= number && number <= value.hi) << "program " << n;
            const bool kept = !(number < right->eval(at, table)) || number == 3;
            any |= kept;
            all &= kept;
          }
        }
      }
      ASSERT_TRUE(truth.may || !any) << "program " << n << ": a tile with a kept pair is called empty";
      ASSERT_TRUE(!truth.must || all) << "program " << n << ": a tile with a dropped pair is called full";
      decided += !truth.may || truth.must ? 1 : 0;
    }
  }
  EXPECT_GT(decided, 2000) << "an answer that is always 'mixed' is sound and useless";
}

TEST(Tables, AnIntervalReadsWhatLiesBetween) {
  Draw draw(4);
  const std::int32_t rows = 5, cols = 11;
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(rows * (cols + 2)));
  for (int n = 0; n < 5000; ++n) {
    std::generate(numbers.begin(), numbers.end(), [&] { return draw.in(-99, 99); });
    const Table<std::int32_t> table{numbers.data(), static_cast<std::int32_t>(numbers.size())};
    const Table2D<std::int32_t> matrix{numbers.data(), rows, cols, cols + 2};
    const Interval i = draw.interval(-4, rows * (cols + 2) + 4), r = draw.interval(-2, rows + 2), c = draw.interval(-2, cols + 2);
    expect_exact_number(
        i, 0, [&](auto x, auto) { return table[x]; }, "table");
    expect_exact_number(
        r, c, [&](auto x, auto y) { return matrix(x, y); }, "table of two dimensions");
  }
  EXPECT_EQ(Table<std::int32_t>{}[Interval(0, 9)].hi, 0);
  EXPECT_EQ((Table2D<std::int32_t>{}(Interval(0, 9), Interval(3))).hi, 0);
}

TEST(Tables, ARectangleOfBitsIsItsBits) {
  Draw draw(5);
  for (int n = 0; n < 5000; ++n) {
    const std::int32_t cols = draw.in(1, 30), rows = draw.in(1, 9), first = draw.in(0, 3);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(first + (rows * cols + 7) / 8));
    const int kind = draw.in(0, 2);
    for (std::uint8_t& byte : bytes) {
      byte = static_cast<std::uint8_t>(kind == 0 ? draw.in(0, 255) : (draw.one_in(9) ? draw.in(0, 255) : (kind == 1 ? 0 : 255)));
    }
    const BitMask mask{bytes.data(), static_cast<std::int64_t>(bytes.size())};
    const Interval row = draw.interval(-1, rows), col = draw.interval(-1, cols);
    expect_exact_truth(
        row, col,
        [&](auto r, auto c) {
          using I = decltype(r);
          return mask.test(I(first), I(cols), r, c);
        },
        "bits");
    const Tri two_matrices = mask.test(Interval(first, first + 1), Interval(cols), row, col);
    ASSERT_TRUE(two_matrices.may && !two_matrices.must);
  }
}

}  // namespace
}  // namespace fovea
