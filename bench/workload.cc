#include "bench/workload.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "fovea/error.h"
#include "generated/builtin_workloads.h"

namespace fovea::bench {
namespace {

/// Levenshtein distance.
std::size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

}  // namespace

std::int64_t Workload::query_tokens() const {
  return std::accumulate(requests.begin(), requests.end(), std::int64_t{0}, [](std::int64_t sum, const auto& r) { return sum + r.qo_len; });
}

std::int64_t Workload::kv_tokens() const {
  std::int64_t total = 0;
  for (const RequestLengths& request : requests) {
    total += request.kv_len;
  }
  for (const SharedPrefix& prefix : prefixes) {
    total -= std::int64_t{prefix.tokens} * (prefix.num_requests - 1);
  }
  return total;
}

std::vector<std::string> workload_names() {
  std::vector<std::string> names;
  for (const BuiltinWorkload& builtin : kBuiltinWorkloads) {
    names.emplace_back(builtin.name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

Limits limits_of(const Workload& workload) {
  Limits limits;
  limits.max_requests = std::max<std::int32_t>(1, static_cast<std::int32_t>(workload.requests.size()));
  limits.max_query_tokens = static_cast<std::int32_t>(std::clamp<std::int64_t>(workload.query_tokens(), 1, INT32_MAX));
  limits.max_query_tokens_per_request = 1;
  limits.max_kv_tokens_per_request = 1;
  for (const RequestLengths& request : workload.requests) {
    limits.max_query_tokens_per_request = std::max(limits.max_query_tokens_per_request, request.qo_len);
    limits.max_kv_tokens_per_request = std::max(limits.max_kv_tokens_per_request, request.kv_len);
    limits.max_kv_tokens += request.kv_len;
  }
  limits.max_kv_tokens = std::max<std::int64_t>(limits.max_kv_tokens, 1);
  return limits;
}

void share_prefix(Workload& workload, const std::string& where, std::int32_t tokens, std::int32_t num_requests) {
  const auto count = static_cast<std::int32_t>(workload.requests.size());
  if (workload.spec.formats.size() != 1 || !workload.spec.formats[0].has_table) {
    throw InvalidArgument(fmt::format("{}: ragged KV can't share a prefix; a shared prefix needs pages", where));
  }
  for (std::size_t i = 0; i < workload.requests.size(); ++i) {
    const RequestLengths& request = workload.requests[i];
    if (request.kv_len - request.qo_len < tokens) {
      throw InvalidArgument(
          fmt::format("{}: request {} has kv_len {} and qo_len {}, too short for a prefix of {} tokens; the query's own tokens "
                      "come after the prefix",
                      where, i, request.kv_len, request.qo_len, tokens));
    }
  }
  for (std::int32_t begin = 0; begin < count; begin += num_requests) {
    workload.prefixes.push_back({.tokens = tokens, .num_requests = std::min(num_requests, count - begin)});
  }
  workload.spec.formats.push_back(workload.spec.formats[0]);
}

DType parse_dtype(const std::string& where, std::string_view name) {
  std::vector<std::string> known;
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto dtype = static_cast<DType>(i);
    if (name == name_of(dtype) && is_float(dtype)) {
      return dtype;
    }
    if (is_float(dtype)) {
      known.emplace_back(name_of(dtype));
    }
  }
  throw InvalidArgument(fmt::format("{}: dtype '{}' is not known; known: {}", where, name, choices(name, known)));
}

std::string choices(std::string_view given, const std::vector<std::string>& known) {
  std::string text = fmt::format("{}", fmt::join(known, ", "));
  const std::string* closest = nullptr;
  std::size_t fewest = given.size() > 3 ? given.size() / 3 + 1 : 0;  // as many edits make another word
  for (const std::string& name : known) {
    const std::size_t edits = edits_between(given, name);
    if (edits < fewest) {
      fewest = edits;
      closest = &name;
    }
  }
  return closest == nullptr ? text : fmt::format("{} (did you mean {}?)", text, *closest);
}

}  // namespace fovea::bench
