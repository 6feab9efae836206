#include "serving/served_request.h"

#include <fmt/format.h>

#include "fovea/error.h"
#include "serving/mix.h"

namespace fovea::serving {
namespace {

std::int32_t shrunk(std::int64_t tokens, std::int32_t shrink) { return static_cast<std::int32_t>((tokens + shrink - 1) / shrink); }

}  // namespace

ServedRequest::ServedRequest(const TraceRequest& recorded, std::int64_t first_arrival_us, std::int32_t shrink, std::uint64_t number)
    : arrival_us_(recorded.arrival_us - first_arrival_us),
      prompt_tokens_(shrunk(recorded.input_tokens, shrink)),
      output_tokens_(shrunk(recorded.output_tokens, shrink)),
      tokens_per_link_(recorded.prefix_ids.empty() ? prompt_tokens_ : static_cast<std::int32_t>(kTokensPerPrefixId) / shrink) {
  std::uint64_t link = 0;
  for (const std::int64_t id : recorded.prefix_ids) {
    link = mix(link, static_cast<std::uint64_t>(id) + 1);
    chain_.push_back(link);
  }
  if (chain_.empty()) {
    chain_.push_back(mix(~number));
  }
  own_ = mix(chain_.back(), ~number);
}

std::uint64_t ServedRequest::token_hash(std::int32_t position) const {
  if (position >= prompt_tokens_) {
    return mix(own_, static_cast<std::uint64_t>(position));
  }
  const auto link = static_cast<std::size_t>(position / tokens_per_link_);
  return mix(chain_[link], static_cast<std::uint64_t>(position % tokens_per_link_));
}

std::vector<ServedRequest> serve(const Trace& trace, std::int32_t shrink) {
  if (shrink < 1 || kTokensPerPrefixId % shrink != 0) {
    throw InvalidArgument(
        fmt::format("--shrink: {} does not divide {}; give 1, 2, 4, ... {}", shrink, kTokensPerPrefixId, kTokensPerPrefixId));
  }
  std::vector<ServedRequest> requests;
  requests.reserve(trace.requests.size());
  for (const TraceRequest& recorded : trace.requests) {
    requests.emplace_back(recorded, trace.requests.front().arrival_us, shrink, requests.size());
  }
  return requests;
}

}  // namespace fovea::serving
