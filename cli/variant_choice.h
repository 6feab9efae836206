// --variant, --variant-file, --mask and --param: the attention rule of a command, the user's own text included.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/workload.h"

namespace fovea::cli {

struct VariantChoice {
  std::string variant;
  std::vector<std::string> files, mask, params;

  void add_to(CLI::App& app, const std::string& group);
  bool given() const { return !variant.empty() || !files.empty(); }

  /// The variant, its texts read: `files` without a name are the parts in their order, with one it names each of them.
  /// Throws InvalidArgument.
  Variant make() const;

  /// Throws InvalidArgument where any of the options is given.
  void refuse(std::string_view why) const;

  /// Gives a workload this variant (whose values the workload's own then aren't) and these values.
  void apply(bench::Workload& workload) const;
};

/// "name=12", "name=0.5", "name=1,2,3" (a table of integers, or of floats where one has a point) or "name=0x0f,0xff" (bytes).
bench::NamedNumber parse_named_number(const std::string& option, const std::string& text);

}  // namespace fovea::cli
