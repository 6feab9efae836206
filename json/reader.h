// JSON that people write: workloads, models, lines of traces. Values are read with checks; every message names file, key and value.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fovea/error.h"

namespace fovea::json {

using Json = nlohmann::json;

/// Where `error` says that a text of so many bytes is wrong, in words.
inline std::string reason(const Json::exception& error, std::size_t num_bytes) {
  const auto* const parse_error = dynamic_cast<const Json::parse_error*>(&error);
  return parse_error != nullptr ? fmt::format("wrong at byte {} of {}", parse_error->byte, num_bytes) : "a number in it is too large";
}

/// Is no list or object of `value` more than `levels` deep? Printing goes as deep as the value does, which may be deeper than the stack.
inline bool is_shallow(const Json& value, int levels) {
  return !value.is_structured() ||
         (levels > 0 && std::all_of(value.begin(), value.end(), [=](const Json& inner) { return is_shallow(inner, levels - 1); }));
}

/// Text of others as it may stand in a message: not long, without what a terminal would act on.
inline std::string brief(std::string_view text) {
  constexpr std::size_t kMaxBytes = 40;
  std::string shown(text.size() > kMaxBytes ? text.substr(0, kMaxBytes - 3) : text);
  std::replace_if(
      shown.begin(), shown.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return text.size() > kMaxBytes ? shown + "..." : shown;
}

inline std::string brief(const Json& value) {
  constexpr int kLevels = 16;
  if (!is_shallow(value, kLevels)) {
    return fmt::format("{} more than {} levels deep", value.is_array() ? "a list" : "an object", kLevels);
  }
  return brief(std::string_view(value.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

class Reader {
 public:
  /// `where`: file name; `path`: where in the file this object is ("" at the top). The object must outlive the reader.
  Reader(const Json& object, std::string where, std::string path = {}) : json_(object), where_(std::move(where)), path_(std::move(path)) {
    if (!json_.is_object()) {
      fail("", fmt::format("{} is not an object", brief(json_)), "write { ... }");
    }
  }

  [[noreturn]] void fail(const std::string& key, const std::string& what, const std::string& rule) const {
    const std::string place = path_.empty() ? key : key.empty() ? path_ : path_ + "." + key;
    throw InvalidArgument(fmt::format("{}: {}{}{}; {}", where_, place, place.empty() ? "" : ": ", what, rule));
  }

  void only_keys(std::initializer_list<const char*> known) const {
    for (const auto& [key, value] : json_.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        fail(key, fmt::format("unknown key (value {})", brief(value)), fmt::format("known here: {}", fmt::join(known, ", ")));
      }
    }
  }

  bool has(const char* key) const { return json_.contains(key); }

  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) {
      fail(key, "missing", "this key is required");
    }
    return *found;
  }

  Reader object(const char* key) const { return {at(key), where_, path_.empty() ? key : path_ + "." + key}; }

  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) const { return integer_of(at(key), key, low, high); }

  std::int32_t int32(const char* key, std::int64_t low, std::int64_t high) const {
    return static_cast<std::int32_t>(integer(key, low, high));
  }
  std::int32_t int32_or(const char* key, std::int32_t otherwise, std::int64_t low, std::int64_t high) const {
    return has(key) ? int32(key, low, high) : otherwise;
  }

  std::int64_t integer_of(const Json& value, const std::string& key, std::int64_t low, std::int64_t high) const {
    if (!value.is_number_integer()) {
      fail(key, fmt::format("{} is not an integer", brief(value)), fmt::format("give {}..{}", low, high));
    }
    const auto number = value.get<std::int64_t>();
    const bool wrapped = value.is_number_unsigned() && number < 0;
    if (wrapped || number < low || number > high) {
      fail(key, fmt::format("{} is outside {}..{}", brief(value), low, high), "give a number in that range");
    }
    return number;
  }

  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) {
      fail(key, fmt::format("{} is not a string", brief(value)), "write it in quotes");
    }
    return value.get<std::string>();
  }
  std::string text_or(const char* key, const char* otherwise) const { return has(key) ? text(key) : otherwise; }

  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }
  const std::string& path() const { return path_; }

 private:
  const Json& json_;
  std::string where_;
  std::string path_;
};

}  // namespace fovea::json
