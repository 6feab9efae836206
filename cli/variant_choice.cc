#include "cli/variant_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string_view>

#include "fovea/error.h"

namespace fovea::cli {
namespace {

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(number) : std::nullopt;
}

std::optional<std::uint8_t> byte_in(std::string_view text) {
  std::uint8_t byte = 0;
  if (!text.starts_with("0x")) {
    return std::nullopt;
  }
  const auto [end, error] = std::from_chars(text.data() + 2, text.data() + text.size(), byte, 16);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(byte) : std::nullopt;
}

/// All entries by `parse`, or nothing where one isn't such a number.
template <class T, class Parse>
std::optional<std::vector<T>> all_of(const std::vector<std::string_view>& entries, Parse parse) {
  std::vector<T> numbers;
  for (const std::string_view entry : entries) {
    const auto number = parse(entry);
    if (!number) {
      return std::nullopt;
    }
    numbers.push_back(static_cast<T>(*number));
  }
  return numbers;
}

}  // namespace

bench::NamedNumber parse_named_number(const std::string& option, const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    throw InvalidArgument(fmt::format("{}: '{}' is not name=number", option, text));
  }
  const std::string name = text.substr(0, equals);
  const std::string_view given = std::string_view(text).substr(equals + 1);
  std::vector<std::string_view> entries;
  for (std::size_t begin = 0; begin <= given.size();) {
    const std::size_t end = std::min(given.find(',', begin), given.size());
    entries.push_back(given.substr(begin, end - begin));
    begin = end + 1;
  }
  if (const auto bytes = all_of<std::uint8_t>(entries, byte_in)) {
    return {name, *bytes};
  }
  const bool is_list = entries.size() > 1;
  if (is_list && entries.back().empty()) {
    entries.pop_back();  // "7,": a list of one
  }
  if (is_list) {
    if (const auto integers = all_of<std::int32_t>(entries, number_in<std::int32_t>)) {
      return {name, *integers};
    }
    if (const auto floats = all_of<float>(entries, number_in<float>)) {
      return {name, *floats};
    }
    throw InvalidArgument(fmt::format("{}: '{}' in '{}' is not a list of numbers", option, given, text));
  }
  if (const auto integer = number_in<std::int64_t>(given)) {
    return {name, *integer};
  }
  if (const auto real = number_in<double>(given)) {
    return {name, *real};
  }
  throw InvalidArgument(fmt::format("{}: '{}' in '{}' is not a number", option, given, text));
}

void VariantChoice::add_to(CLI::App& app, const std::string& group) {
  app.add_option("--variant", variant, "causal, full, sliding_window, sliding_window+sink, ...")->type_name("V")->group(group);
  app.add_option("--variant-file", files,
                 "A variant of your own: my_cap.h defines struct MyCap. Repeatable; --variant says how they compose")
      ->type_name("FILE")
      ->group(group)
      ->allow_extra_args(false);
  app.add_option("--mask", mask,
                 "What the variant's mask needs, as in window_left=4096 or prefix_len=3,0,7 (of one: 3,); or any: plan for every mask")
      ->type_name("NAME=X")
      ->group(group);
  app.add_option("--param", params, "A parameter that the variant needs, as in cap=30")->type_name("NAME=X")->group(group);
}

Variant VariantChoice::make() const {
  if (files.empty()) {
    return Variant(variant);
  }
  std::optional<Variant> of_files;
  for (const std::string& file : files) {
    if (!std::filesystem::is_regular_file(file)) {
      throw InvalidArgument(fmt::format("--variant-file: '{}' is no file that can be read", file));
    }
    const Variant one = Variant::from_file(file);
    of_files = of_files ? *of_files + one : one;
  }
  if (!variant.empty()) {
    const std::vector<std::string> parts = Variant(variant).parts();
    for (const VariantSource& source : of_files->sources) {
      if (std::find(parts.begin(), parts.end(), source.name) == parts.end()) {
        throw InvalidArgument(fmt::format("--variant-file: '{}' is no part of --variant {}; write {}+{}, or wherever it belongs",
                                          source.name, variant, variant, source.name));
      }
    }
    of_files->name = variant;
  }
  return *of_files;
}

void VariantChoice::refuse(std::string_view why) const {
  for (const auto& [option, used] : {std::pair{"--variant", !variant.empty()},
                                     {"--variant-file", !files.empty()},
                                     {"--mask", !mask.empty()},
                                     {"--param", !params.empty()}}) {
    if (used) {
      throw InvalidArgument(fmt::format("{}: not here; {}", option, why));
    }
  }
}

void VariantChoice::apply(bench::Workload& workload) const {
  if (given()) {
    workload.spec.variant = make();
    workload.mask.clear();
    workload.params.clear();
  }
  const auto put = [](std::vector<bench::NamedNumber>& values, bench::NamedNumber number) {
    std::erase_if(values, [&](const bench::NamedNumber& old) { return old.name == number.name; });
    values.push_back(std::move(number));
  };
  for (const std::string& text : mask) {
    if (text == "any") {
      workload.any_mask = true;
    } else {
      put(workload.mask, parse_named_number("--mask", text));
    }
  }
  for (const std::string& text : params) {
    put(workload.params, parse_named_number("--param", text));
  }
}

}  // namespace fovea::cli
