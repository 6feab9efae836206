// Integers and truths of a whole tile, so that a `keep` written once answers for one (query, key) pair and for a rectangle of them.
// Answers are sound: what is called empty or full is so. They are exact where every variable stands once in an expression, and where a
// variant's test says so; elsewhere a mixed tile is the loss.
#pragma once

#include "portable/compat.h"

namespace fovea {

/// What is true of the pairs of a tile. A bool is both or none.
struct Tri {
  bool may;                                                        // of some pair, perhaps
  bool must;                                                       // of every pair
  FOVEA_FN constexpr Tri(bool value) : may(value), must(value) {}  // NOLINT: a truth is a Tri
  FOVEA_FN constexpr Tri(bool of_some, bool of_every) : may(of_some), must(of_every) {}
};

FOVEA_FN constexpr Tri operator!(Tri a) { return {!a.must, !a.may}; }
FOVEA_FN constexpr Tri operator&(Tri a, Tri b) { return {a.may && b.may, a.must && b.must}; }
FOVEA_FN constexpr Tri operator|(Tri a, Tri b) { return {a.may || b.may, a.must || b.must}; }
FOVEA_FN constexpr Tri operator&&(Tri a, Tri b) { return a & b; }
FOVEA_FN constexpr Tri operator||(Tri a, Tri b) { return a | b; }

/// Both, of bools or truths of tiles: neither skips the other, so that loops over pairs have no branch.
FOVEA_FN constexpr bool both_of(bool a, bool b) { return a & b; }
FOVEA_FN constexpr Tri both_of(Tri a, Tri b) { return a & b; }

inline constexpr int32_t kLowestInt = -2147483647 - 1;
inline constexpr int32_t kHighestInt = 2147483647;

/// All integers lo .. hi, inclusive. Bounds that leave 32 bits stop at their ends: a number that overflows has no meaning for one pair
/// either.
struct Interval {
  int32_t lo, hi;
  FOVEA_FN constexpr Interval() : lo(0), hi(0) {}
  FOVEA_FN constexpr Interval(int32_t value) : lo(value), hi(value) {}  // NOLINT: a number is an interval
  FOVEA_FN constexpr Interval(int32_t low, int32_t high) : lo(low), hi(high) {}
  Interval(bool) = delete;
  Interval(float) = delete;  // masks are integer arithmetic: a float would be cut off
  Interval(double) = delete;
  Interval(int64_t) = delete;
  FOVEA_FN constexpr bool single() const { return lo == hi; }
};

inline constexpr Interval kAnyInteger{kLowestInt, kHighestInt};

FOVEA_FN constexpr int32_t clamped_to_int(int64_t x) {
  return static_cast<int32_t>(min_<int64_t>(max_<int64_t>(x, kLowestInt), kHighestInt));
}
FOVEA_FN constexpr Interval interval_of(int64_t lo, int64_t hi) { return {clamped_to_int(lo), clamped_to_int(hi)}; }
FOVEA_FN constexpr Interval hull(Interval a, Interval b) { return {min_(a.lo, b.lo), max_(a.hi, b.hi)}; }

FOVEA_FN constexpr Tri operator<(Interval a, Interval b) { return {a.lo < b.hi, a.hi < b.lo}; }
FOVEA_FN constexpr Tri operator<=(Interval a, Interval b) { return {a.lo <= b.hi, a.hi <= b.lo}; }
FOVEA_FN constexpr Tri operator>(Interval a, Interval b) { return b < a; }
FOVEA_FN constexpr Tri operator>=(Interval a, Interval b) { return b <= a; }
FOVEA_FN constexpr Tri operator==(Interval a, Interval b) {
  return {a.lo <= b.hi && b.lo <= a.hi, a.single() && b.single() && a.lo == b.lo};
}
FOVEA_FN constexpr Tri operator!=(Interval a, Interval b) { return !(a == b); }

FOVEA_FN constexpr Interval operator-(Interval a) { return interval_of(-int64_t{a.hi}, -int64_t{a.lo}); }
FOVEA_FN constexpr Interval operator+(Interval a, Interval b) { return interval_of(int64_t{a.lo} + b.lo, int64_t{a.hi} + b.hi); }
FOVEA_FN constexpr Interval operator-(Interval a, Interval b) { return interval_of(int64_t{a.lo} - b.hi, int64_t{a.hi} - b.lo); }
FOVEA_FN constexpr Interval operator*(Interval a, Interval b) {
  const int64_t p = int64_t{a.lo} * b.lo, q = int64_t{a.lo} * b.hi, r = int64_t{a.hi} * b.lo, s = int64_t{a.hi} * b.hi;
  return interval_of(min_(min_(p, q), min_(r, s)), max_(max_(p, q), max_(r, s)));
}

/// Division as C++ has it, toward zero. A divisor that isn't positive has no meaning in a mask: the quotient is anything.
FOVEA_FN constexpr Interval operator/(Interval a, Interval b) {
  if (b.lo < 1) {
    return kAnyInteger;
  }
  return {a.lo / (a.lo < 0 ? b.lo : b.hi), a.hi / (a.hi < 0 ? b.hi : b.lo)};
}
FOVEA_FN constexpr Interval operator%(Interval a, Interval b) {
  if (b.lo < 1) {
    return kAnyInteger;
  }
  if (b.single() && a.lo / b.lo == a.hi / b.lo) {
    return {a.lo % b.lo, a.hi % b.lo};  // within one period the remainder grows with its number
  }
  return {a.lo < 0 ? max_(a.lo, 1 - b.hi) : 0, a.hi > 0 ? min_(a.hi, b.hi - 1) : 0};
}

FOVEA_FN constexpr Interval min_(Interval a, Interval b) { return {min_(a.lo, b.lo), min_(a.hi, b.hi)}; }
FOVEA_FN constexpr Interval max_(Interval a, Interval b) { return {max_(a.lo, b.lo), max_(a.hi, b.hi)}; }
FOVEA_FN constexpr Interval abs_(Interval a) {
  if (a.lo >= 0) {
    return a;
  }
  return a.hi <= 0 ? -a : Interval{0, max_(a.hi, (-a).hi)};
}
FOVEA_FN constexpr int32_t abs_(int32_t a) { return a < 0 ? -a : a; }

/// condition ? a : b, of numbers; both are computed.
FOVEA_FN constexpr int32_t select(bool condition, int32_t a, int32_t b) { return condition ? a : b; }
FOVEA_FN constexpr Interval select(Tri condition, Interval a, Interval b) { return condition.must ? a : (condition.may ? hull(a, b) : b); }

}  // namespace fovea
