// Limits: the bounds that kernels are chosen by and buffers are sized from.
#pragma once

#include <cstdint>
#include <string>

namespace fovea {

/// What no batch will exceed. Everything prepare() allocates follows from these and the spec; a plan() over a limit is refused.
/// Fields left at 0 take the default in their comment.
struct Limits {
  std::int32_t max_requests = 256;
  std::int32_t max_query_tokens = 0;  // of the whole batch; 0: max_requests (one a request, pure decode), or the next if that is more
  std::int32_t max_query_tokens_per_request = 0;  // 0: max_query_tokens
  std::int32_t max_kv_tokens_per_request = 0;     // 0: 131072, or max_kv_tokens if that is less
  std::int64_t max_kv_tokens = 0;    // of all row groups of a batch; 0: each request or row block as long as max_kv_tokens_per_request
                                     // allows. Read by fixed splits alone: it bounds how many there can be
  std::int32_t max_row_groups = 0;   // requests, shared prefixes, row blocks of sparse matrices, over all formats; 0: max_requests per
                                     // format, or as many row blocks as max_query_tokens make (x num_kv_heads with tables per head)
  std::int32_t max_mask_groups = 1;  // masks planned together

  std::string to_string() const;
};

}  // namespace fovea
