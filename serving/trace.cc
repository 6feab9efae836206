#include "serving/trace.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <filesystem>

#include "fovea/error.h"
#include "json/reader.h"
#include "serving/line_reader.h"

namespace fovea::serving {
namespace {

using json::brief;
using json::Json;

constexpr std::int64_t kMaxTokens = 1 << 24;
constexpr std::int64_t kMaxMilliseconds = std::int64_t{1} << 42;  // 139 years
constexpr std::string_view kAzureHeader = "TIMESTAMP,ContextTokens,GeneratedTokens";

void check_range(const char* what, std::int64_t number, std::int64_t low, std::int64_t high) {
  if (number < low || number > high) {
    throw InvalidArgument(fmt::format("{} is {}; it must be in {}..{}", what, number, low, high));
  }
}

std::int64_t integer_of(const Json& value, const char* what, std::int64_t low, std::int64_t high) {
  if (!value.is_number_integer()) {
    throw InvalidArgument(fmt::format("{} is {}; it must be an integer in {}..{}", what, brief(value), low, high));
  }
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(high)) {
    throw InvalidArgument(fmt::format("{} is {}; it must be in {}..{}", what, brief(value), low, high));
  }
  check_range(what, value.get<std::int64_t>(), low, high);
  return value.get<std::int64_t>();
}

std::int64_t integer_at(const Json& object, const char* key, std::int64_t low, std::int64_t high) {
  const auto found = object.find(key);
  if (found == object.end()) {
    throw InvalidArgument(fmt::format("key '{}' is missing; a line needs timestamp, input_length and output_length", key));
  }
  return integer_of(*found, key, low, high);
}

std::int64_t decimal(std::string_view text, const char* what, std::int64_t low, std::int64_t high) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) {
    throw InvalidArgument(fmt::format("{} is {}; it must be in {}..{}", what, brief(text), low, high));
  }
  if (error != std::errc() || end != text.data() + text.size()) {
    throw InvalidArgument(fmt::format("{} is '{}'; it must be an integer in {}..{}", what, brief(text), low, high));
  }
  check_range(what, number, low, high);
  return number;
}

/// "2023-11-16 18:15:46.6805900" as microseconds since 1970. The fraction may have 0 to 9 digits. The traces of 2024 have "+00:00" behind
/// it.
std::int64_t microseconds_of(std::string_view text) {
  namespace chrono = std::chrono;
  const std::string_view whole = text;
  if (constexpr std::string_view kZone = "+00:00"; text.ends_with(kZone)) {
    text.remove_suffix(kZone.size());
  }
  const std::string_view pattern = "0000-00-00 00:00:00";
  bool right = text.size() >= pattern.size() && text.size() <= pattern.size() + 10;
  for (std::size_t i = 0; right && i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    right = i < pattern.size() ? (pattern[i] == '0' ? digit : text[i] == pattern[i]) : i == pattern.size() ? text[i] == '.' : digit;
  }
  const auto field = [&](std::size_t begin, std::size_t count) {
    int number = 0;
    std::from_chars(text.data() + begin, text.data() + begin + count, number);
    return number;
  };
  const chrono::year_month_day date =
      right ? chrono::year_month_day(chrono::year(field(0, 4)), chrono::month(static_cast<unsigned>(field(5, 2))),
                                     chrono::day(static_cast<unsigned>(field(8, 2))))
            : chrono::year_month_day();
  if (!right || !date.ok() || field(11, 2) > 23 || field(14, 2) > 59 || field(17, 2) > 60) {
    throw InvalidArgument(fmt::format("TIMESTAMP is '{}'; it must be a time such as 2023-11-16 18:15:46.6805900", brief(whole)));
  }
  std::string fraction(text.size() > pattern.size() ? text.substr(pattern.size() + 1) : "");
  fraction.resize(6, '0');
  std::int64_t micros = 0;
  std::from_chars(fraction.data(), fraction.data() + 6, micros);
  const std::int64_t days = chrono::sys_days(date).time_since_epoch().count();
  return ((days * 24 + field(11, 2)) * 3600 + field(14, 2) * 60 + field(17, 2)) * 1'000'000 + micros;
}

/// Reads line after line. Lines that are wrong are thrown or counted.
class Reader {
 public:
  Reader(const std::string& path, const TraceOptions& options) : path_(path), options_(options), lines_(path) {
    trace_.name = std::filesystem::path(path).filename().string();
  }

  Trace read() {
    std::string line;
    while (wanted() && next(line)) {
      if (line.find_first_not_of(" \t") != std::string::npos) {
        take(line);
      }
    }
    if (trace_.requests.empty()) {
      throw InvalidArgument(fmt::format("{}: no requests in it{}{}; a trace has at least one", path_, trace_.skipped_lines > 0 ? ": " : "",
                                        trace_.first_skipped));
    }
    return std::move(trace_);
  }

 private:
  bool wanted() const { return options_.max_requests == 0 || static_cast<std::int64_t>(trace_.requests.size()) < options_.max_requests; }

  bool next(std::string& line) {
    try {
      return lines_.next(line);
    } catch (const InvalidArgument& error) {
      if (!options_.skip_bad) {
        throw;
      }
      skip(error.what());
      return false;
    }
  }

  /// The format that a first line is of.
  static const char* format_of(std::string_view line) {
    if (line == kAzureHeader) {
      return "azure";
    }
    if (line[line.find_first_not_of(" \t")] != '{') {
      throw InvalidArgument(fmt::format("'{}' begins no known format; known: JSON lines ({{\"timestamp\": ...}}), CSV with the header {}",
                                        brief(line), kAzureHeader));
    }
    return "mooncake";
  }

  void check_arrival(std::int64_t arrival_us) const {
    if (trace_.requests.empty()) {
      return;
    }
    if (arrival_us < trace_.requests.back().arrival_us) {
      throw InvalidArgument(fmt::format("the request arrives {} us before the one above; requests must be in order of arrival",
                                        trace_.requests.back().arrival_us - arrival_us));
    }
    if (arrival_us - trace_.requests.front().arrival_us > kMaxMilliseconds * 1000) {
      throw InvalidArgument(fmt::format("the request arrives {} years after the first; there may be 139 between them",
                                        (arrival_us - trace_.requests.front().arrival_us) / (std::int64_t{365} * 86'400'000'000)));
    }
  }

  void take(std::string_view line) {
    try {
      if (trace_.format.empty()) {
        trace_.format = format_of(line);
        if (trace_.format == "azure") {
          return;  // the header
        }
      }
      TraceRequest request = trace_.format == "azure" ? parse_azure_line(line) : parse_mooncake_line(line);
      check_arrival(request.arrival_us);
      trace_.requests.push_back(std::move(request));
    } catch (const InvalidArgument& error) {
      const std::string what = fmt::format("{}:{}: {}", path_, lines_.line_number(), error.what());
      if (!options_.skip_bad) {
        throw InvalidArgument(what + "; --skip-bad goes on without such lines");
      }
      skip(what);
    }
  }

  void skip(const std::string& what) {
    ++trace_.skipped_lines;
    if (trace_.first_skipped.empty()) {
      trace_.first_skipped = what;
    }
  }

  std::string path_;
  TraceOptions options_;
  LineReader lines_;
  Trace trace_;
};

}  // namespace

TraceRequest parse_mooncake_line(std::string_view line) {
  Json object;
  try {
    object = Json::parse(line);
  } catch (const Json::exception& error) {
    throw InvalidArgument(fmt::format("'{}' is no JSON ({})", brief(line), json::reason(error, line.size())));
  }
  if (!object.is_object()) {
    throw InvalidArgument(fmt::format("{} is not an object; a line is {{\"timestamp\": ..., ...}}", brief(object)));
  }
  TraceRequest request{.arrival_us = integer_at(object, "timestamp", 0, kMaxMilliseconds) * 1000,
                       .input_tokens = integer_at(object, "input_length", 1, kMaxTokens),
                       .output_tokens = integer_at(object, "output_length", 1, kMaxTokens),
                       .prefix_ids = {}};
  const auto ids = object.find("hash_ids");
  if (ids == object.end()) {
    return request;
  }
  if (!ids->is_array()) {
    throw InvalidArgument(fmt::format("hash_ids is {}; it must be a list of integers", brief(*ids)));
  }
  const std::int64_t expected = (request.input_tokens + kTokensPerPrefixId - 1) / kTokensPerPrefixId;
  if (static_cast<std::int64_t>(ids->size()) != expected) {
    throw InvalidArgument(fmt::format("hash_ids has {} ids for {} tokens; one for every {} tokens makes {}", ids->size(),
                                      request.input_tokens, kTokensPerPrefixId, expected));
  }
  for (const Json& id : *ids) {
    request.prefix_ids.push_back(integer_of(id, "an id in hash_ids", 0, INT64_MAX));
  }
  return request;
}

TraceRequest parse_azure_line(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t begin = 0; begin <= line.size();) {
    const std::size_t comma = std::min(line.find(',', begin), line.size());
    fields.push_back(line.substr(begin, comma - begin));
    begin = comma + 1;
  }
  if (fields.size() != 3) {
    throw InvalidArgument(fmt::format("'{}' has {} fields; a line has 3: {}", brief(line), fields.size(), kAzureHeader));
  }
  return {.arrival_us = microseconds_of(fields[0]),
          .input_tokens = decimal(fields[1], "ContextTokens", 1, kMaxTokens),
          .output_tokens = decimal(fields[2], "GeneratedTokens", 1, kMaxTokens),
          .prefix_ids = {}};
}

Trace read_trace(const std::string& path, const TraceOptions& options) { return Reader(path, options).read(); }

}  // namespace fovea::serving
