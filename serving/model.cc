#include "serving/model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cfloat>
#include <charconv>
#include <fstream>
#include <sstream>

#include "fovea/error.h"
#include "json/reader.h"

namespace fovea::serving {
namespace {

/// One full layer after every five with a window.
std::vector<std::int32_t> five_windows_then_full(std::int32_t window) { return {window, window, window, window, window, 0}; }

// From the configurations published with the models.
const std::vector<Model>& known_models() {
  static const std::vector<Model> models = {
      {.name = "tiny", .num_qo_heads = 4, .num_kv_heads = 2, .head_dim_qk = 64, .head_dim_vo = 64, .num_layers = 2},
      {.name = "llama-3.1-8b", .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128, .num_layers = 32},
      {.name = "llama-3.1-70b", .num_qo_heads = 64, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128, .num_layers = 80},
      {.name = "qwen3-8b", .num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128, .num_layers = 36},
      {.name = "qwen3-32b", .num_qo_heads = 64, .num_kv_heads = 8, .head_dim_qk = 128, .head_dim_vo = 128, .num_layers = 64},
      {.name = "qwen3-30b-a3b", .num_qo_heads = 32, .num_kv_heads = 4, .head_dim_qk = 128, .head_dim_vo = 128, .num_layers = 48},
      {.name = "mistral-7b-v0.1",
       .num_qo_heads = 32,
       .num_kv_heads = 8,
       .head_dim_qk = 128,
       .head_dim_vo = 128,
       .num_layers = 32,
       .windows = {4096}},
      {.name = "gemma-2-9b",
       .num_qo_heads = 16,
       .num_kv_heads = 8,
       .head_dim_qk = 256,
       .head_dim_vo = 256,
       .num_layers = 42,
       .windows = {4096, 0},
       .soft_cap = 50.0},
      {.name = "gemma-3-12b",
       .num_qo_heads = 16,
       .num_kv_heads = 8,
       .head_dim_qk = 256,
       .head_dim_vo = 256,
       .num_layers = 48,
       .windows = five_windows_then_full(1024)},
      {.name = "gemma-3-27b",
       .num_qo_heads = 32,
       .num_kv_heads = 16,
       .head_dim_qk = 128,
       .head_dim_vo = 128,
       .num_layers = 62,
       .windows = five_windows_then_full(1024),
       .sm_scale = 0.07715167498104596},  // 1 / sqrt(168)
      {.name = "gpt-oss-20b",
       .num_qo_heads = 64,
       .num_kv_heads = 8,
       .head_dim_qk = 64,
       .head_dim_vo = 64,
       .num_layers = 24,
       .windows = {128, 0},
       .sink = true},
      {.name = "gpt-oss-120b",
       .num_qo_heads = 64,
       .num_kv_heads = 8,
       .head_dim_qk = 64,
       .head_dim_vo = 64,
       .num_layers = 36,
       .windows = {128, 0},
       .sink = true},
  };
  return models;
}

constexpr std::int64_t kMaxHeads = 4096, kMaxHeadDim = 1024, kMaxLayers = 1024, kMaxWindow = 1 << 24;

double positive_number(const json::Reader& reader, const char* key) {
  const auto& value = reader.at(key);
  const double number = value.is_number() ? value.get<double>() : 0;
  if (!(number > 0)) {
    reader.fail(key, fmt::format("{} is not a number above 0", json::brief(value)), "leave the key out for none");
  }
  if (number < FLT_MIN || number > FLT_MAX) {
    reader.fail(key, fmt::format("{} is not a float", json::brief(value)), fmt::format("give {:.3g}..{:.3g}", FLT_MIN, FLT_MAX));
  }
  return number;
}

std::vector<std::int32_t> windows_of(const json::Reader& reader) {
  const auto& list = reader.at("windows");
  if (!list.is_array() || list.empty()) {
    reader.fail("windows", fmt::format("{} is not a list of numbers", json::brief(list)), "one window per layer of a period; 0: unlimited");
  }
  std::vector<std::int32_t> windows;
  for (const auto& window : list) {
    windows.push_back(static_cast<std::int32_t>(reader.integer_of(window, "windows", 0, kMaxWindow)));
  }
  return windows;
}

Model parse_model(const std::string& where, const std::string& text) {
  json::Json whole;
  try {
    whole = json::Json::parse(text);
  } catch (const json::Json::exception& error) {
    throw InvalidArgument(fmt::format("{}: it is no JSON ({}); docs/json.md shows a model", where, json::reason(error, text.size())));
  }
  const json::Reader reader(whole, where);
  reader.only_keys(
      {"name", "num_qo_heads", "num_kv_heads", "head_dim_qk", "head_dim_vo", "num_layers", "windows", "soft_cap", "sink", "sm_scale"});
  Model model{.name = reader.text_or("name", where.c_str()),
              .num_qo_heads = reader.int32("num_qo_heads", 1, kMaxHeads),
              .num_kv_heads = reader.int32("num_kv_heads", 1, kMaxHeads),
              .head_dim_qk = reader.int32("head_dim_qk", 4, kMaxHeadDim),
              .head_dim_vo = 0,
              .num_layers = 0};
  model.head_dim_vo = reader.int32_or("head_dim_vo", model.head_dim_qk, 4, kMaxHeadDim);
  if (model.num_qo_heads % model.num_kv_heads != 0) {
    reader.fail("num_kv_heads", fmt::format("{} does not divide num_qo_heads {}", model.num_kv_heads, model.num_qo_heads), "it must");
  }
  for (const char* key : {"head_dim_qk", "head_dim_vo"}) {
    if (reader.has(key) && reader.int32(key, 4, kMaxHeadDim) % 4 != 0) {
      reader.fail(key, fmt::format("{} is no multiple of 4", reader.int32(key, 4, kMaxHeadDim)), "it must be");
    }
  }
  if (reader.has("windows")) {
    model.windows = windows_of(reader);
  }
  const auto period = static_cast<std::int32_t>(model.windows.size());
  model.num_layers = reader.int32_or("num_layers", period, 1, kMaxLayers);
  if (period > model.num_layers) {
    reader.fail("windows", fmt::format("{} for {} layers", period, model.num_layers),
                "one window per layer of a period; num_layers counts them all");
  }
  if (reader.has("soft_cap")) {
    model.soft_cap = positive_number(reader, "soft_cap");
  }
  if (reader.has("sm_scale")) {
    model.sm_scale = positive_number(reader, "sm_scale");
  }
  if (reader.has("sink")) {
    if (!reader.at("sink").is_boolean()) {
      reader.fail("sink", fmt::format("{} is neither true nor false", json::brief(reader.at("sink"))), "give one of them");
    }
    model.sink = reader.at("sink").get<bool>();
  }
  return model;
}

/// The heads of one of `ranks` ranks. KV heads are repeated where there are more ranks than KV heads.
Model rank_of(Model model, const std::string& text) {
  int ranks = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), ranks);
  if (error != std::errc() || end != text.data() + text.size() || ranks < 1 || model.num_qo_heads % ranks != 0 ||
      (model.num_kv_heads % ranks != 0 && ranks % model.num_kv_heads != 0)) {
    throw InvalidArgument(
        fmt::format("--model: '{}/tp{}' is not possible; the number after /tp must divide {} query heads, and {} KV heads or be a "
                    "multiple of them",
                    model.name, text, model.num_qo_heads, model.num_kv_heads));
  }
  model.name += "/tp" + text;
  model.num_qo_heads /= ranks;
  model.num_kv_heads = std::max(1, model.num_kv_heads / ranks);
  return model;
}

}  // namespace

std::string Model::variant() const {
  const bool windowed = std::any_of(windows.begin(), windows.end(), [](std::int32_t window) { return window > 0; });
  return std::string(windowed ? "sliding_window" : "causal") + (soft_cap ? "+soft_cap" : "") + (sink ? "+sink" : "");
}

std::vector<std::int32_t> Model::mask_groups() const {
  std::vector<std::int32_t> groups;
  for (const std::int32_t window : windows) {
    if (std::find(groups.begin(), groups.end(), window) == groups.end()) {
      groups.push_back(window);
    }
  }
  return groups;
}

std::int32_t Model::mask_group_of(std::int32_t layer) const {
  const std::vector<std::int32_t> groups = mask_groups();
  return static_cast<std::int32_t>(std::find(groups.begin(), groups.end(), window_of(layer)) - groups.begin());
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Model& model : known_models()) {
    names.push_back(model.name);
  }
  return names;
}

Model find_model(const std::string& name_or_path) {
  if (name_or_path.ends_with(".json")) {
    std::ifstream file(name_or_path);
    std::ostringstream text;
    if (!file || !(text << file.rdbuf())) {
      throw InvalidArgument(
          fmt::format("--model: '{}' can't be read; give a file or one of {}", name_or_path, fmt::join(model_names(), ", ")));
    }
    return parse_model(name_or_path, text.str());
  }
  const std::size_t ranks = name_or_path.rfind("/tp");
  const std::string name = name_or_path.substr(0, ranks);
  for (const Model& model : known_models()) {
    if (model.name == name) {
      return ranks == std::string::npos ? model : rank_of(model, name_or_path.substr(ranks + 3));
    }
  }
  throw InvalidArgument(fmt::format("--model: '{}' is not known; known: {}; /tpN behind a name takes one of N ranks; or give a .json file",
                                    name_or_path, fmt::join(model_names(), ", ")));
}

}  // namespace fovea::serving
