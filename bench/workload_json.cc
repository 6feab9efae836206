// From JSON to Workload.
#include <cmath>
#include <fstream>
#include <iterator>

#include "bench/random.h"
#include "bench/workload.h"
#include "generated/builtin_workloads.h"
#include "json/reader.h"

namespace fovea::bench {
namespace {

using json::Json;

constexpr std::int32_t kMaxLength = 1 << 29;  // positions are below this everywhere in fovea
constexpr std::int32_t kMaxHeads = 1 << 15;
constexpr std::int32_t kMaxHeadDim = 1024;
constexpr std::int32_t kMaxRequests = 1 << 20;

KvFormat read_format(const json::Reader& spec, bool& tables_2d) {
  if (!spec.has("format")) {
    return KvFormat::paged(16);
  }
  const json::Reader format = spec.object("format");
  format.only_keys({"ragged", "page_size", "table_2d"});
  if (format.has("table_2d")) {
    const Json& table = format.at("table_2d");
    if (!table.is_boolean() || (table.get<bool>() && format.has("ragged"))) {
      format.fail("table_2d", fmt::format("{} is not a boolean beside a page_size", json::brief(table)), "write true or leave it out");
    }
    tables_2d = table.get<bool>();
  }
  if (format.has("ragged")) {
    const Json& ragged = format.at("ragged");
    if (!ragged.is_boolean()) {
      format.fail("ragged", fmt::format("{} is not a boolean", json::brief(ragged)), "write true, or give page_size instead");
    }
    if (ragged.get<bool>() && format.has("page_size")) {
      format.fail("page_size", fmt::format("{} beside \"ragged\": true", json::brief(format.at("page_size"))),
                  "ragged KV has no pages; give one of the two");
    }
    if (ragged.get<bool>()) {
      return KvFormat::ragged();
    }
  }
  return KvFormat::paged(format.int32("page_size", 1, 1 << 20));
}

KvQuant read_quant(const json::Reader& spec) {
  const std::string name = spec.text_or("kv_quant", "none");
  const std::vector<std::string> known = {"none", "tensor", "head", "token"};
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (name == known[i]) {
      return static_cast<KvQuant>(i);
    }
  }
  spec.fail("kv_quant", fmt::format("unknown scales \"{}\"", name), "known: " + choices(name, known));
}

AttentionSpec read_spec(const json::Reader& reader, bool& tables_2d) {
  reader.only_keys({"num_qo_heads", "num_kv_heads", "head_dim_qk", "head_dim_vo", "dtype", "kv_dtype", "kv_quant", "variant", "format"});
  AttentionSpec spec;
  spec.num_qo_heads = reader.int32("num_qo_heads", 1, kMaxHeads);
  spec.num_kv_heads = reader.int32("num_kv_heads", 1, kMaxHeads);
  if (spec.num_qo_heads % spec.num_kv_heads != 0) {
    reader.fail("num_kv_heads", fmt::format("{} does not divide num_qo_heads = {}", spec.num_kv_heads, spec.num_qo_heads),
                "every kv head serves the same number of query heads");
  }
  spec.head_dim_qk = reader.int32("head_dim_qk", 1, kMaxHeadDim);
  spec.head_dim_vo = reader.int32_or("head_dim_vo", spec.head_dim_qk, 1, kMaxHeadDim);
  const auto dtype = [&](const char* key, const char* otherwise) {
    return parse_dtype(fmt::format("{}: {}.{}", reader.where(), reader.path(), key), reader.text_or(key, otherwise));
  };
  spec.q_dtype = spec.o_dtype = dtype("dtype", "bf16");
  spec.k_dtype = spec.v_dtype = dtype("kv_dtype", name_of(spec.q_dtype));
  spec.kv_quant = read_quant(reader);
  spec.variant.name = reader.text_or("variant", "causal");
  spec.formats = {read_format(reader, tables_2d)};
  return spec;
}

/// Numbers of a variant: {"window_left": 127, "sink": {"per_head": [-1.0, 1.0]}}: evenly spread over the query heads.
std::vector<NamedNumber> read_values(const json::Reader& reader, std::int32_t num_qo_heads) {
  std::vector<NamedNumber> values;
  for (const auto& [name, value] : reader.json().items()) {
    if (value.is_number_integer()) {
      values.push_back({name, value.get<std::int64_t>()});
    } else if (value.is_number()) {
      values.push_back({name, value.get<double>()});
    } else {
      const Json* ends = value.is_object() && value.size() == 1 && value.contains("per_head") ? &value["per_head"] : nullptr;
      if (ends == nullptr || !ends->is_array() || ends->size() != 2 || !(*ends)[0].is_number() || !(*ends)[1].is_number()) {
        reader.fail(name, fmt::format("{} is neither a number nor a range over heads", json::brief(value)),
                    "write a number or {\"per_head\": [first, last]}");
      }
      const auto first = (*ends)[0].get<float>();
      const auto last = (*ends)[1].get<float>();
      std::vector<float> heads(static_cast<std::size_t>(num_qo_heads));
      for (std::size_t h = 0; h < heads.size(); ++h) {
        heads[h] = first + (last - first) * static_cast<float>(h) / static_cast<float>(std::max<std::size_t>(heads.size() - 1, 1));
      }
      values.push_back({name, std::move(heads)});
    }
  }
  return values;
}

/// `count` lengths: a number, {"uniform": [low, high]} or {"zipf": [low, high]}: high / rank, at least low, shuffled.
std::vector<std::int32_t> read_lengths(const json::Reader& entry, const char* key, std::int32_t count, Random& random) {
  const Json& value = entry.at(key);
  std::vector<std::int32_t> lengths(static_cast<std::size_t>(count));
  if (value.is_number()) {
    std::fill(lengths.begin(), lengths.end(), entry.int32(key, 0, kMaxLength));
    return lengths;
  }
  const bool known = value.is_object() && value.size() == 1 && (value.contains("uniform") || value.contains("zipf"));
  if (!known || !value.begin()->is_array() || value.begin()->size() != 2) {
    entry.fail(key, fmt::format("{} is not a length", json::brief(value)),
               "write a number, {\"uniform\": [low, high]} or {\"zipf\": [low, high]}");
  }
  const Json& ends = *value.begin();
  const std::int64_t low = entry.integer_of(ends[0], key, 0, kMaxLength);
  const std::int64_t high = entry.integer_of(ends[1], key, low, kMaxLength);
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const std::int64_t length = value.contains("zipf") ? std::max(low, high / static_cast<std::int64_t>(i + 1)) : random.between(low, high);
    lengths[i] = static_cast<std::int32_t>(length);
  }
  random.shuffle(std::span(lengths));
  return lengths;
}

std::vector<RequestLengths> read_requests(const json::Reader& reader, Random& random) {
  const Json& list = reader.at("requests");
  if (!list.is_array() || list.empty()) {
    reader.fail("requests", fmt::format("{} is not a list of requests", json::brief(list)),
                "write [{\"count\": 1, \"qo_len\": 1, \"kv_len\": 4096}, ...]");
  }
  std::vector<RequestLengths> requests;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const json::Reader entry(list[i], reader.where(), fmt::format("requests[{}]", i));
    entry.only_keys({"count", "qo_len", "kv_len"});
    const std::int32_t count = entry.int32_or("count", 1, 1, kMaxRequests);
    const std::vector<std::int32_t> qo = read_lengths(entry, "qo_len", count, random);
    const std::vector<std::int32_t> kv = read_lengths(entry, "kv_len", count, random);
    for (std::size_t r = 0; r < qo.size(); ++r) {
      requests.push_back({.qo_len = qo[r], .kv_len = kv[r]});
    }
  }
  return requests;
}

}  // namespace

namespace {

Json parse_json(const std::string& where, std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    const std::string reason = error.what();
    throw InvalidArgument(fmt::format("{}: not JSON ({})", where, reason.substr(reason.find("] ") + 2)));
  }
}

Workload workload_of(const std::string& where, const Json& whole) {
  const json::Reader reader(whole, where);
  reader.only_keys({"about", "spec", "mask", "params", "requests", "shared_prefix", "seed"});
  Workload workload;
  workload.name = std::filesystem::path(where).stem().string();
  workload.about = reader.text_or("about", "");
  workload.spec = read_spec(reader.object("spec"), workload.tables_2d);
  if (reader.has("mask") && reader.at("mask") == Json("any")) {
    workload.any_mask = true;
  } else if (reader.has("mask")) {
    workload.mask = read_values(reader.object("mask"), workload.spec.num_qo_heads);
  }
  if (reader.has("params")) {
    workload.params = read_values(reader.object("params"), workload.spec.num_qo_heads);
  }
  Random random(reader.has("seed") ? static_cast<std::uint64_t>(reader.integer("seed", 0, INT64_MAX)) : 1);
  workload.requests = read_requests(reader, random);
  if (reader.has("shared_prefix")) {
    const json::Reader prefix = reader.object("shared_prefix");
    prefix.only_keys({"tokens", "requests"});
    share_prefix(workload, where + ": shared_prefix", prefix.int32("tokens", 1, kMaxLength), prefix.int32("requests", 1, kMaxRequests));
  }
  return workload;
}

/// "4x4k"
std::string point_name(std::int32_t batch, std::int32_t kv_len) {
  return kv_len % 1024 == 0 ? fmt::format("{}x{}k", batch, kv_len / 1024) : fmt::format("{}x{}", batch, kv_len);
}

/// The workloads of one entry of a grid: its spec over the grid's, batches x lengths as far as they are small enough, or points.
void add_grid_entry(const json::Reader& grid, const json::Reader& entry, std::vector<Workload>& workloads) {
  entry.only_keys({"name", "spec", "batch", "kv_len", "max_tokens", "points"});
  Json whole = {{"about", grid.text_or("about", "")}, {"spec", grid.object("spec").json()}};
  if (entry.has("spec")) {
    whole["spec"].merge_patch(entry.object("spec").json());
  }
  const std::string name = entry.text_or("name", "");
  const auto add = [&](const Json& batch, const Json& kv_len) {
    const auto requests = static_cast<std::int32_t>(entry.integer_of(batch, "batch", 1, kMaxRequests));
    const auto tokens = static_cast<std::int32_t>(entry.integer_of(kv_len, "kv_len", 0, kMaxLength));
    if (entry.has("max_tokens") && std::int64_t{requests} * tokens > entry.integer("max_tokens", 1, INT64_MAX)) {
      return;
    }
    whole["requests"] = {{{"count", requests}, {"qo_len", 1}, {"kv_len", tokens}}};
    workloads.push_back(workload_of(grid.where(), whole));
    Workload& workload = workloads.back();
    workload.name = point_name(requests, tokens) + (name.empty() ? "" : "_" + name);
  };
  if (entry.has("points")) {
    for (const Json& point : entry.at("points")) {
      if (!point.is_array() || point.size() != 2) {
        entry.fail("points", fmt::format("{} is not a point", json::brief(point)), "write [batch, kv_len]");
      }
      add(point[0], point[1]);
    }
    return;
  }
  for (const Json& batch : entry.at("batch")) {
    for (const Json& kv_len : entry.at("kv_len")) {
      add(batch, kv_len);
    }
  }
}

/// The text of a built-in workload or of a file.
std::string text_of_workload(const std::string& name_or_path) {
  const bool is_path = name_or_path.find('/') != std::string::npos || std::filesystem::path(name_or_path).extension() == ".json";
  if (!is_path) {
    for (const BuiltinWorkload& builtin : kBuiltinWorkloads) {
      if (name_or_path == builtin.name) {
        return std::string(builtin.json);
      }
    }
    throw InvalidArgument(fmt::format("workload '{}' is not known; known: {}; or give the path of a .json file", name_or_path,
                                      choices(name_or_path, workload_names())));
  }
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(name_or_path, ignored);  // opening one works, reading it throws
  std::ifstream file(is_folder ? std::string() : name_or_path);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad() || (text.empty() && !std::filesystem::is_regular_file(name_or_path, ignored))) {
    const bool exists = std::filesystem::exists(name_or_path, ignored);
    throw InvalidArgument(fmt::format("{}: can't be read ({}); give a workload's name or a JSON file", name_or_path,
                                      is_folder ? "it is a folder" : (exists ? "not a readable file" : "no such file")));
  }
  return text;
}

}  // namespace

Workload parse_workload(const std::string& where, std::string_view text) { return workload_of(where, parse_json(where, text)); }

std::vector<Workload> parse_workloads(const std::string& where, std::string_view text) {
  const Json whole = parse_json(where, text);
  if (!whole.is_object() || !whole.contains("grid")) {
    return {workload_of(where, whole)};
  }
  const json::Reader grid(whole, where);
  grid.only_keys({"about", "spec", "grid"});
  if (!grid.at("grid").is_array()) {
    grid.fail("grid", fmt::format("{} is not a list", json::brief(grid.at("grid"))), "write [{\"batch\": [1], \"kv_len\": [1024]}, ...]");
  }
  std::vector<Workload> workloads;
  for (std::size_t i = 0; i < grid.at("grid").size(); ++i) {
    add_grid_entry(grid, json::Reader(grid.at("grid")[i], where, fmt::format("grid[{}]", i)), workloads);
  }
  return workloads;
}

Workload load_workload(const std::string& name_or_path) { return parse_workload(name_or_path, text_of_workload(name_or_path)); }

std::vector<Workload> load_workloads(const std::string& name_or_path) {
  return parse_workloads(name_or_path, text_of_workload(name_or_path));
}

}  // namespace fovea::bench
