// The second half of check_batch: what follows from lengths, requests' tokens and positions.
#include "src/problem/batch_check.h"

namespace fovea {
namespace {

/// Tokens of the first `num_formats` formats for a request: what portable tokens_before() computes, in 64 bits.
std::int64_t wide_tokens_before(const BatchCheck& check, std::int32_t request, std::int32_t num_formats) {
  const BatchView& b = check.view;
  const std::int32_t row = b.qo_indptr[request];
  std::int64_t tokens = 0;
  for (std::int32_t i = 0; i < num_formats; ++i) {
    const FormatView& f = b.formats[i];
    if (f.num_row_sets == 0 || f.row_indices != nullptr || f.by_index) {
      continue;
    }
    const std::int32_t set = set_of_row(f, row, request);
    if (sets_are_requests(f) || (b.qo_indptr[request + 1] > row && set_holds_row(b, f, set, row))) {
      tokens += wide_tokens_of(f, set * f.heads_per_set);
    }
  }
  return tokens;
}

/// A group that has not as many tokens as the first kv head of its rows: such a format doesn't say how many tokens a request has. -1: none.
std::int32_t group_unlike_its_first_head(const FormatView& f) {
  for (std::int32_t g = 0; f.heads_per_set > 1 && g < f.num_groups(); ++g) {
    if (wide_tokens_of(f, g) != wide_tokens_of(f, g - g % f.heads_per_set)) {
      return g;
    }
  }
  return -1;
}

/// The default of Batch::kv_len is a sum over formats: every format must say how many tokens a request has.
void check_kv_len_default(const BatchCheck& check) {
  for (std::int32_t i = 0; i < check.view.num_formats; ++i) {
    const FormatView& f = check.view.formats[i];
    FOVEA_CHECK(!f.by_index, "plan: kv_len is not given; it is needed because positions in kv[{}] are storage indices", i);
    FOVEA_CHECK(f.row_indices == nullptr, "plan: kv_len is not given; it is needed because kv[{}] lists its rows by row_indices", i);
    const std::int32_t r = check.cut_requests[i];
    FOVEA_CHECK(r < 0, "plan: kv_len is not given; it is needed because the rows of request {} are in several groups of kv[{}]", r, i);
    const std::int32_t g = group_unlike_its_first_head(f);
    FOVEA_CHECK(
        g < 0, "plan: kv_len is not given; it is needed because the heads of a row set of kv[{}] differ in tokens, as group {} does", i, g);
  }
}

/// wide_tokens_before() for all formats, asked for request after request: each format's row set is found by going on from the last one's.
class TokensOfRequests {
 public:
  explicit TokensOfRequests(const BatchView& batch) : batch_(batch) {}
  std::int64_t of(std::int32_t request) {
    std::int64_t tokens = 0;
    for (std::int32_t i = 0; i < batch_.num_formats; ++i) {
      const FormatView& f = batch_.formats[i];
      if (f.row_indices == nullptr && !f.by_index) {
        tokens += sets_are_requests(f) ? wide_tokens_of(f, request * f.heads_per_set) : of_set(i, request);
      }
    }
    return tokens;
  }

 private:
  std::int64_t of_set(std::int32_t i, std::int32_t request) {
    const FormatView& f = batch_.formats[i];
    const std::int32_t row = batch_.qo_indptr[request];
    if (row == batch_.qo_indptr[request + 1]) {
      return 0;
    }
    for (std::int32_t& set = set_[i]; set < f.num_row_sets; ++set) {
      std::int32_t begin = 0, end = 0;
      rows_of_set(batch_, f, set, begin, end);
      if (row < end) {
        return wide_tokens_of(f, set * f.heads_per_set);
      }
    }
    return 0;
  }

  const BatchView& batch_;
  std::int32_t set_[kMaxFormats] = {};
};

void check_request_lengths(const BatchCheck& check) {
  const BatchView& view = check.view;
  const std::int32_t limit = check.problem.limits.max_kv_tokens_per_request;
  if (view.kv_len == nullptr) {
    check_kv_len_default(check);
    if (view.num_formats == 1) {
      return;  // groups are checked already
    }
  }
  TokensOfRequests requests(view);
  for (std::int32_t r = 0; r < view.num_requests; ++r) {
    const std::int64_t tokens = requests.of(r);
    if (view.kv_len == nullptr) {
      FOVEA_CHECK(tokens <= limit, "plan: request {} has {} tokens over all formats; limits.max_kv_tokens_per_request = {}", r, tokens,
                  limit);
      continue;
    }
    FOVEA_CHECK(0 <= view.kv_len[r] && view.kv_len[r] <= limit,
                "plan: kv_len[{}] = {}; it must be 0 to limits.max_kv_tokens_per_request = {}", r, view.kv_len[r], limit);
    FOVEA_CHECK(tokens <= view.kv_len[r], "plan: kv_len[{}] = {} but the tables of request {} hold {} tokens", r, view.kv_len[r], r,
                tokens);
  }
}

void check_query_positions(const BatchCheck& check) {
  const BatchView& view = check.view;
  for (std::int32_t r = 0; view.q_pos != nullptr && r < view.num_requests; ++r) {
    FOVEA_CHECK(-kMaxPosition < view.q_pos[r] && view.q_pos[r] < kMaxPosition - (view.qo_indptr[r + 1] - view.qo_indptr[r]),
                "plan: q_pos[{}] = {}; positions are between {} and {}", r, view.q_pos[r], -kMaxPosition, kMaxPosition);
  }
}

/// The default of kv_pos is where the formats before this one end: they must say so, and agree for all rows of a group.
void check_kv_pos_default(const BatchCheck& check, std::int32_t i) {
  const BatchView& view = check.view;
  const FormatView& f = view.formats[i];
  for (std::int32_t before = 0; before < i; ++before) {
    const FormatView& b = view.formats[before];
    FOVEA_CHECK(!b.by_index && b.row_indices == nullptr, "plan: kv[{}].kv_pos is not given; it is needed because kv[{}] before it {}", i,
                before, b.by_index ? "has storage indices for positions" : "lists its rows by row_indices");
    const std::int32_t cut = check.cut_requests[before];
    FOVEA_CHECK(cut < 0, "plan: kv[{}].kv_pos is not given; it is needed because the rows of request {} are in several groups of kv[{}]", i,
                cut, before);
    const std::int32_t unlike = group_unlike_its_first_head(b);
    FOVEA_CHECK(
        unlike < 0,
        "plan: kv[{}].kv_pos is not given; it is needed because the heads of a row set of kv[{}] differ in tokens, as group {} does", i,
        before, unlike);
  }
  if (sets_are_requests(f)) {
    return;
  }
  for (std::int32_t set = 0; set < f.num_row_sets; ++set) {
    std::int32_t begin = 0, end = 0;
    rows_of_set(view, f, set, begin, end);
    std::int32_t first = -1;
    for (std::int32_t j = begin; j < end;) {
      const std::int32_t row = f.row_indices != nullptr ? f.row_indices[j] : j;
      const std::int32_t request = request_of_row(view, row);
      first = first < 0 ? request : first;
      FOVEA_CHECK(request == first || wide_tokens_before(check, request, i) == wide_tokens_before(check, first, i),
                  "plan: kv[{}].kv_pos is not given; it is needed because group {} has rows of requests {} and {}, which have {} and {} "
                  "tokens before it",
                  i, set, first, request, wide_tokens_before(check, first, i), wide_tokens_before(check, request, i));
      j = f.row_indices != nullptr ? j + 1 : view.qo_indptr[request + 1];
    }
  }
}

void check_key_positions(const BatchCheck& check) {
  for (std::int32_t i = 0; i < check.view.num_formats; ++i) {
    const FormatView& f = check.view.formats[i];
    const std::int32_t stride = f.kv_pos_stride;
    FOVEA_CHECK(1 <= stride && stride < kMaxPosition, "plan: kv[{}].kv_pos_stride = {}; it must be 1 to {}", i, stride, kMaxPosition - 1);
    if (i > 0 && f.kv_pos == nullptr && !f.by_index) {
      check_kv_pos_default(check, i);
    }
    if (f.kv_pos == nullptr && stride == 1) {
      continue;
    }
    const std::int64_t before = f.kv_pos == nullptr && i > 0 ? check.problem.limits.max_kv_tokens_per_request : 0;
    for (std::int32_t g = 0; g < f.num_groups(); ++g) {
      const std::int64_t first = f.kv_pos != nullptr ? f.kv_pos[g] : before;
      FOVEA_CHECK(0 <= first && first < kMaxPosition, "plan: kv[{}].kv_pos[{}] = {}; it must be 0 to {}", i, g, first, kMaxPosition - 1);
      const std::int64_t steps = f.by_index ? 0 : max_<std::int64_t>(0, wide_tokens_of(f, g) - 1);
      FOVEA_CHECK(first + steps * stride < kMaxPosition, "plan: group {} of kv[{}] reaches position {} in steps of {}; positions end at {}",
                  g, i, first + steps * stride, stride, kMaxPosition);
    }
  }
}

}  // namespace

void check_positions(const BatchCheck& check) {
  check_request_lengths(check);
  check_query_positions(check);
  check_key_positions(check);
}

}  // namespace fovea
