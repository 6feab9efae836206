// What a case's result must be, from its dense arrays alone: no tables, no strides, no plan, no code of the library.
#pragma once

#include <vector>

#include "check/case.h"

namespace fovea::check {

/// Results by (query token, query head). lse is natural, -inf where nothing is seen; without softmax it is not set.
struct Dense {
  std::vector<double> o;            // [rows, heads, head_dim_vo]
  std::vector<double> o_magnitude;  // the same sum over |v|: what rounding errors of weights are relative to
  std::vector<double> o_spread;     // root of the sum of (weight * v)^2: how far errors of weights that know nothing of each other come
  std::vector<double> lse;          // [rows, heads]
  std::vector<double> lse_with_extra;
  std::vector<double> largest_logit;    // in magnitude, as it enters the exponential
  std::vector<double> logit_magnitude;  // largest sm_scale * sum of |q_i k_i| over the keys of a row and head
};

/// Does a query see a key, by the case's rule?
bool sees(const Case& c, int request, int qo_idx, int q_pos, int kv_pos);

/// In double, nothing rounded.
Dense exact_result(const Case& c);

/// The same formula done plainly: float arithmetic, logits and weights rounded to `stored_dtype`, outputs to the dtype of o. How far it is
/// from the exact result is what a backend is measured by.
Dense plain_result(const Case& c);

/// What a plain computation keeps logits and weights in: the dtype of q, that of o where q has 8 bits.
DType stored_dtype(const Case& c);

}  // namespace fovea::check
