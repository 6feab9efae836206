#include "check/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "check/number.h"

namespace fovea::check {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLn2 = 0.693147180559945309417;

/// A tensor inside `memory` with gaps between rows and a row more than the case has.
TensorView poisoned(std::vector<std::byte>& memory, DType dtype, std::int64_t rows, std::int64_t heads, std::int64_t head_dim) {
  const std::int64_t inner = head_dim + 3, outer = heads * inner + 5;
  memory.assign(static_cast<std::size_t>(bytes_of(dtype, (rows + 1) * outer)), std::byte{0xff});
  return TensorView::strided(memory.data(), dtype, {rows, heads, head_dim}, {outer, inner, 1});
}

/// Are all bytes outside of the tensor's elements as they were?
bool only_elements_written(std::vector<std::byte> memory, const TensorView& t) {
  const std::size_t element = static_cast<std::size_t>(bytes_of(t.dtype, 1));
  const std::int64_t last = t.ndim == 3 ? t.dim(2) : 1;
  for (std::int64_t row = 0; row < t.dim(0); ++row) {
    for (std::int64_t head = 0; head < t.dim(1); ++head) {
      std::memset(memory.data() + static_cast<std::size_t>(row * t.stride(0) + head * t.stride(1)) * element, 0xff,
                  element * static_cast<std::size_t>(last));
    }
  }
  return std::all_of(memory.begin(), memory.end(), [](std::byte b) { return b == std::byte{0xff}; });
}

std::string place_of(const Case& c, int row, int head) {
  const int request = c.request_of_row[static_cast<std::size_t>(row)];
  return fmt::format("query token {} (request {}, its token {}), head {}", row, request,
                     row - c.requests[static_cast<std::size_t>(request)].qo_begin, head);
}

/// Error over bound; infinity where one is finite and the other is not.
double ratio_of(double actual, double expected, double bound) {
  if (actual == expected) {
    return 0;
  }
  if (!std::isfinite(actual) || !std::isfinite(expected)) {
    return kInfinity;
  }
  const double error = std::fabs(actual - expected);
  return bound > 0 ? error / bound : kInfinity;
}

void judge(Verdict& verdict, double actual, double expected, double bound, const std::string& what) {
  const double ratio = ratio_of(actual, expected, bound);
  if (ratio > verdict.worst) {
    verdict.worst = ratio;
    verdict.text = fmt::format("{} is {:.9g}, expected {:.9g}: off by {:.3g}, bound {:.3g}", what, actual, expected,
                               std::fabs(actual - expected), bound);
  }
}

double lse_asked(const Case& c, const Dense& dense, std::size_t at) {
  const double lse = c.run.lse_with_extra ? dense.lse_with_extra[at] : dense.lse[at];
  return c.run.lse_base2 ? lse / kLn2 : lse;
}

}  // namespace

Outputs make_outputs(const Case& c, DType o_dtype) {
  Outputs out;
  out.o = poisoned(out.o_memory, o_dtype, c.num_rows(), c.spec.num_qo_heads, c.spec.head_dim_vo);
  if (c.with_lse) {
    TensorView lse = poisoned(out.lse_memory, DType::f32, c.num_rows(), c.spec.num_qo_heads, 1);
    lse.ndim = 2;
    out.lse = lse;
  }
  return out;
}

Bounds backend_bounds(const Case& c, const Dense& exact) {
  const Dense plain = plain_result(c);
  const double half_ulp_of_weights = ulp_at(stored_dtype(c), 1) / 2;
  Bounds bounds{.o = std::vector<double>(exact.o.size()), .lse = std::vector<double>(exact.lse.size())};
  const std::size_t dim = static_cast<std::size_t>(c.spec.head_dim_vo);
  for (std::size_t at = 0; at < exact.lse.size(); ++at) {
    double plain_error = 0;
    for (std::size_t i = at * dim; i < (at + 1) * dim; ++i) {
      plain_error = std::max(plain_error, std::fabs(plain.o[i] - exact.o[i]));
    }
    for (std::size_t i = at * dim; i < (at + 1) * dim; ++i) {
      const double float_units = 6 + 2 * exact.largest_logit[at] + exact.logit_magnitude[at];
      const double weights_rounded = half_ulp_of_weights * std::min(exact.o_magnitude[i], 4 * exact.o_spread[i]);
      bounds.o[i] =
          std::max(2 * plain_error, weights_rounded) + ulp_at(c.spec.o_dtype, exact.o[i]) + 0x1p-24 * float_units * exact.o_magnitude[i];
    }
    const double lse = lse_asked(c, exact, at);
    bounds.lse[at] = std::isfinite(lse)
                         ? 2 * std::fabs(lse_asked(c, plain, at) - lse) + 4 * 0x1p-24 * (1 + std::fabs(lse) + exact.logit_magnitude[at])
                         : 0;
  }
  return bounds;
}

Bounds reference_bounds(const Case& c, const Dense& exact) {
  Bounds bounds{.o = std::vector<double>(exact.o.size()), .lse = std::vector<double>(exact.lse.size())};
  for (std::size_t i = 0; i < exact.o.size(); ++i) {
    bounds.o[i] = ulp_at(DType::f32, exact.o[i]) + 0x1p-40 * exact.o_magnitude[i];
  }
  for (std::size_t at = 0; at < exact.lse.size(); ++at) {
    const double lse = lse_asked(c, exact, at);
    bounds.lse[at] = std::isfinite(lse) ? ulp_at(DType::f32, lse) + 0x1p-40 * (1 + exact.logit_magnitude[at]) : 0;
  }
  return bounds;
}

Bounds own_bounds(const Case& c, const Dense& reference) {
  double largest = 0;
  for (const DensePool& pool : c.pools) {
    for (std::size_t i = 0; i < pool.v.size(); ++i) {
      largest = std::max(largest, std::isfinite(pool.v[i]) ? std::fabs(pool.v[i]) : 0.0);
    }
  }
  for (const double o : reference.o) {
    largest = std::max(largest, std::isfinite(o) ? std::fabs(o) : 0.0);
  }
  const bool narrow = c.spec.q_dtype != DType::f32 || c.spec.o_dtype != DType::f32;
  return {.o = std::vector<double>(reference.o.size(), (narrow ? 0x1p-6 : 0x1p-13) * largest),
          .lse = std::vector<double>(reference.lse.size(), 0)};
}

Verdict compare(const Case& c, const Dense& expected, const Bounds& bounds, const Outputs& actual) {
  Verdict verdict;
  const std::size_t dim = static_cast<std::size_t>(c.spec.head_dim_vo);
  for (int row = 0; row < c.num_rows(); ++row) {
    for (int head = 0; head < c.spec.num_qo_heads; ++head) {
      const std::size_t at = static_cast<std::size_t>(row * c.spec.num_qo_heads + head);
      for (std::size_t i = 0; i < dim; ++i) {
        const std::int64_t index = row * actual.o.stride(0) + head * actual.o.stride(1) + static_cast<std::int64_t>(i);
        const double value = decode(actual.o.dtype, actual.o.data, index);
        if (ratio_of(value, expected.o[at * dim + i], bounds.o[at * dim + i]) > verdict.worst) {
          judge(verdict, value, expected.o[at * dim + i], bounds.o[at * dim + i],
                fmt::format("o of {}, element {}", place_of(c, row, head), i));
        }
      }
      if (actual.lse.defined()) {
        const double value = actual.lse.as<float>()[row * actual.lse.stride(0) + head * actual.lse.stride(1)];
        if (ratio_of(value, lse_asked(c, expected, at), bounds.lse[at]) > verdict.worst) {
          judge(verdict, value, lse_asked(c, expected, at), bounds.lse[at], "lse of " + place_of(c, row, head));
        }
      }
    }
  }
  if (!only_elements_written(actual.o_memory, actual.o) ||
      (actual.lse.defined() && !only_elements_written(actual.lse_memory, actual.lse))) {
    verdict = {.worst = kInfinity, .text = "memory beside the outputs was written"};
  }
  return verdict;
}

Dense dense_of(const Case& c, const Outputs& outputs) {
  Dense dense;
  for (int row = 0; row < c.num_rows(); ++row) {
    for (int head = 0; head < c.spec.num_qo_heads; ++head) {
      for (int i = 0; i < c.spec.head_dim_vo; ++i) {
        dense.o.push_back(decode(outputs.o.dtype, outputs.o.data, row * outputs.o.stride(0) + head * outputs.o.stride(1) + i));
      }
      const double lse = outputs.lse.defined() ? outputs.lse.as<float>()[row * outputs.lse.stride(0) + head * outputs.lse.stride(1)] : 0;
      dense.lse.push_back(c.run.lse_base2 ? lse * kLn2 : lse);
    }
  }
  dense.lse_with_extra = dense.lse;
  return dense;
}

}  // namespace fovea::check
