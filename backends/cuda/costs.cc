#include "backends/cuda/costs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "fovea/error.h"
#include "src/support/env.h"

namespace fovea::cuda {
namespace {

constexpr const char* kVariable = "FOVEA_COSTS";
constexpr std::uint32_t kMostCost = 1 << 16;  // 4096 tiles

CostTable parse(std::string_view entry, std::string_view numbers) {
  std::uint32_t values[4] = {};
  const char* at = numbers.data();
  const char* const end = numbers.data() + numbers.size();
  for (std::uint32_t& value : values) {
    const auto [next, error] = std::from_chars(at, end, value);
    const bool is_last = &value == &values[3];
    if (error != std::errc() || value > kMostCost || (is_last ? next != end : next == end || *next != ',')) {
      throw InvalidArgument(
          fmt::format("{}: '{}' can't be read; entries are kernel:fixed,per_tile,per_partial,least_share with numbers up to "
                      "{}",
                      kVariable, entry, kMostCost));
    }
    at = next + (is_last ? 0 : 1);
  }
  if (values[0] == 0 || values[1] == 0) {
    throw InvalidArgument(fmt::format("{}: '{}': fixed and per_tile are at least 1", kVariable, entry));
  }
  return {.fixed = values[0], .per_tile = values[1], .per_partial = values[2], .least_share = values[3]};
}

}  // namespace

CostTable cost_of(std::string_view kernel, const CostTable& built_in) {
  const std::optional<std::string> text = text_of_variable(kVariable);
  std::string_view rest = text ? std::string_view(*text) : std::string_view();
  while (!rest.empty()) {
    const std::string_view entry = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    const std::size_t colon = entry.find(':');
    if (entry.empty()) {
      continue;
    }
    if (colon == std::string_view::npos) {
      return parse(entry, "");  // refused
    }
    if (entry.substr(0, colon) == kernel) {
      return parse(entry, entry.substr(colon + 1));
    }
  }
  return built_in;
}

}  // namespace fovea::cuda
