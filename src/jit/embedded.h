// The source text inside the library: what code compiled at run time includes. Written at build time by cmake/EmbedSources.cmake.
#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace fovea::jit {

struct SourceFile {
  std::string_view path;  // as it is included: "portable/variant.h", "fovea/dtype.h"
  std::string_view text;
};

/// Every embedded file.
std::span<const SourceFile> embedded_sources();

/// Those below some folders ("portable/", "backends/cpu/device/"), in the order of embedded_sources().
std::vector<SourceFile> embedded_sources_under(std::span<const std::string_view> folders);

}  // namespace fovea::jit
