// Is a result right? Patterns of inf and NaN first, then every element against a bound of its own; never an average.
#pragma once

#include <string>
#include <vector>

#include "check/case.h"
#include "check/oracle.h"

namespace fovea::check {

/// Outputs of one run, poisoned before it with NaN. `o` and `lse` have gaps and rows of their own that nobody may write.
struct Outputs {
  TensorView o, lse;
  std::vector<std::byte> o_memory, lse_memory;
};

Outputs make_outputs(const Case& c, DType o_dtype);

/// Largest error in units of its bound; above 1 is a failure, and `text` says where and by how much.
struct Verdict {
  double worst = 0;
  std::string text;
  bool failed() const { return worst > 1; }
};

/// What an error may be:
///   o:   the larger of 2 * (largest error of the plain computation in the row) and of what one rounding of every weight may do
///        + 1 ulp of the output at the expected value
///        + 2^-24 * (6 + 2 * largest |logit| + largest sum of |q_i k_i| * scale) * sum of weight * |v|
///   lse: 2 * (error of the plain computation) + 4 * 2^-24 * (1 + |lse| + largest sum of |q_i k_i| * scale)
/// One rounding of every weight: a row that sees few keys can be lucky in the plain computation, which rounds weights divided by their sum,
/// where a kernel rounds them undivided. With u half an ulp of 1 in the dtype of the weights that is at most u * sum of weight * |v|, and,
/// the roundings knowing nothing of each other, hardly ever above 4 u * root of the sum of (weight * v)^2, seven standard deviations; the
/// smaller of the two.
/// The last terms are what float arithmetic may do where the plain computation is lucky. A weight e^s is off by |s| * 2^-24 for every
/// rounding of s, of which kernels have two more than the plain formula (s in base 2, and after the maximum is taken off), by 4 * 2^-24
/// with an exp2 of 2 ulp, and by 2 * 2^-24 in the sum and the quotient around it; an extra logit is a logit here. A dot product of n
/// products is off by about sqrt(n) * 2^-24 of their magnitudes, 16 * 2^-24 at n = 256 in order, a quarter of that in lanes.
struct Bounds {
  std::vector<double> o;    // [rows, heads, head_dim_vo]
  std::vector<double> lse;  // [rows, heads]
};

Bounds backend_bounds(const Case& c, const Dense& exact);
/// For a double computation written as f32: 1 ulp, and 2^-40 of the magnitudes.
Bounds reference_bounds(const Case& c, const Dense& exact);

/// Where only the reference's result is known: what a float kernel may be off by, of the largest value and output; 16 bits where an element
/// has them, 2^-13 in float. Finds wrong masks, not wrong roundings.
Bounds own_bounds(const Case& c, const Dense& reference);

/// Compares with `expected` (o and the lse the case asks for, in its base). Also: were only the case's rows written?
Verdict compare(const Case& c, const Dense& expected, const Bounds& bounds, const Outputs& actual);

/// The results of a run as Dense, for comparing others with them. lse in natural units.
Dense dense_of(const Case& c, const Outputs& outputs);

}  // namespace fovea::check
