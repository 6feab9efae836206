// Workload: a named batch. An attention layer's shape, a mask, and the lengths of the requests of one step; no tensors.
// Kept as JSON in workloads/ (docs/json.md has the keys); built into the program, so that a name is enough.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fovea/limits.h"
#include "fovea/plan.h"
#include "fovea/problem.h"

namespace fovea::bench {

struct RequestLengths {
  std::int32_t qo_len = 1;
  std::int32_t kv_len = 0;  // tokens of the whole request, the shared prefix and the query's own included
};

/// Rows of `columns` numbers.
struct FloatTable {
  std::vector<float> numbers;
  std::int64_t columns = 1;
};

/// A number, one number per query head, or a table.
struct NamedNumber {
  std::string name;
  std::variant<double, std::int64_t, std::vector<float>, std::vector<std::int32_t>, std::vector<std::uint8_t>, FloatTable> value;
};

/// The first `tokens` tokens of `num_requests` adjacent requests are the same pages.
struct SharedPrefix {
  std::int32_t tokens = 0;
  std::int32_t num_requests = 0;
};

struct Workload {
  std::string name;
  std::string about;
  AttentionSpec spec;     // one format, or two (prefixes, then the rest of each request) with `prefixes`
  bool any_mask = false;  // plan the whole KV whatever the mask says
  std::vector<NamedNumber> mask;
  std::vector<NamedNumber> params;
  TileClasses tiles = {};  // of the mask, where they are known; borrowed
  std::vector<RequestLengths> requests;
  bool tables_2d = false;              // page tables are 2-D, padded to the longest
  std::vector<SharedPrefix> prefixes;  // in request order, all requests or none

  std::int64_t query_tokens() const;
  std::int64_t kv_tokens() const;  // shared prefixes counted once
};

/// Names of the built-in workloads, sorted.
std::vector<std::string> workload_names();

/// A built-in workload by name, or the JSON file at a path (anything with a '/' or that ends in ".json").
/// Throws InvalidArgument that names the file, the key and the value.
Workload load_workload(const std::string& name_or_path);

/// The text of one workload. `where` stands in front of messages.
Workload parse_workload(const std::string& where, std::string_view text);

/// One workload, or all those of a grid: a list of shapes, each with batches and lengths of decoding.
std::vector<Workload> load_workloads(const std::string& name_or_path);
std::vector<Workload> parse_workloads(const std::string& where, std::string_view text);

/// The tightest limits that fit the workload.
Limits limits_of(const Workload& workload);

/// Puts a shared prefix in front of every `num_requests` requests: splits the format in two. Throws InvalidArgument.
void share_prefix(Workload& workload, const std::string& where, std::int32_t tokens, std::int32_t num_requests);

/// "bf16" and so on. Throws InvalidArgument with the known names.
DType parse_dtype(const std::string& where, std::string_view name);

/// One "name" and "name, name, ..." for messages: known names, with the one most like `given` in front of them.
std::string choices(std::string_view given, const std::vector<std::string>& known);

}  // namespace fovea::bench
