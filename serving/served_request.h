// ServedRequest: a trace's request as it is replayed, and the identity of its tokens. A token's hash depends on everything before it, so
// two tokens with equal hashes stand behind equal prefixes, and have equal keys and values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "serving/trace.h"

namespace fovea::serving {

class ServedRequest {
 public:
  /// `shrink`: one token stands for so many of the trace; divides kTokensPerPrefixId.
  ServedRequest(const TraceRequest& recorded, std::int64_t first_arrival_us, std::int32_t shrink, std::uint64_t number);

  std::int64_t arrival_us() const { return arrival_us_; }  // since the first request
  std::int32_t prompt_tokens() const { return prompt_tokens_; }
  std::int32_t output_tokens() const { return output_tokens_; }

  /// Tokens that get keys and values: the last output token is never read again.
  std::int32_t max_kv_tokens() const { return prompt_tokens_ + output_tokens_ - 1; }

  /// Identity of the token at `position` and of all tokens before it. Positions from prompt_tokens() on are generated: no other request's.
  std::uint64_t token_hash(std::int32_t position) const;

 private:
  std::int64_t arrival_us_;
  std::int32_t prompt_tokens_, output_tokens_;
  std::int32_t tokens_per_link_;      // prompt tokens that a link of the chain stands for
  std::vector<std::uint64_t> chain_;  // [links]: identity of everything up to the end of a link's tokens
  std::uint64_t own_;                 // identity of the prompt in this request
};

/// All requests of a trace, numbered in order. Throws InvalidArgument when `shrink` does not divide kTokensPerPrefixId.
std::vector<ServedRequest> serve(const Trace& trace, std::int32_t shrink);

}  // namespace fovea::serving
