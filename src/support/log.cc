#include "src/support/log.h"

#include <fmt/format.h>

#include <cstdio>
#include <mutex>
#include <set>
#include <string>

#include "src/support/env.h"

namespace fovea {

void log_line(std::string_view text) {
  if (log_enabled()) {
    const std::string line = fmt::format("fovea: {}\n", text);
    std::fwrite(line.data(), 1, line.size(), stderr);  // one call: lines of several threads don't mix
  }
}

void log_once(std::string_view text) {
  static std::mutex mutex;
  static std::set<std::string, std::less<>> said;
  const std::lock_guard lock(mutex);
  if (said.find(text) == said.end()) {
    said.emplace(text);
    log_line(text);
  }
}

}  // namespace fovea
