#include "cli/results.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "cli/version.h"
#include "fovea/error.h"

namespace fovea::cli {

namespace fs = std::filesystem;

Results::Results(std::string command, const std::string& json_path) : command_(std::move(command)), path_(json_path) {
  if (path_.empty() || path_ == "-") {
    return;
  }
  std::error_code ignored;
  const bool plain = !fs::exists(path_, ignored) || fs::is_regular_file(path_, ignored);
  if (plain) {
    partial_ = fmt::format("{}.partial-{}", path_, getpid());
  }
  const bool is_folder = fs::is_directory(path_, ignored);
  errno = 0;
  if (!is_folder) {
    file_.open(plain ? partial_ : fs::path(path_));
  }
  if (!file_.is_open()) {
    const std::string reason = is_folder ? "it is a folder" : std::strerror(errno);
    partial_.clear();
    throw InvalidArgument(
        fmt::format("--json: '{}' can't be written ({}); give a file in a folder that exists, or - for standard output", path_, reason));
  }
}

Results::~Results() {
  if (!partial_.empty()) {  // not written: an error or Ctrl-C came first
    std::error_code ignored;
    fs::remove(partial_, ignored);
  }
}

void Results::write(const Json& keys) {
  if (path_.empty()) {
    return;
  }
  Json whole = {{"fovea", kVersion}, {"command", command_}};
  whole.update(keys);
  const std::string text = whole.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  if (path_ == "-") {
    if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0) {
      throw InvalidArgument("--json: standard output can't be written");
    }
    return;
  }
  file_ << text;
  file_.close();
  std::error_code error;
  if (!file_.fail() && !partial_.empty()) {
    fs::rename(partial_, path_, error);
  }
  if (file_.fail() || error) {
    throw InvalidArgument(
        fmt::format("--json: writing '{}' failed ({}); is the disk full?", path_, error ? error.message() : "short write"));
  }
  partial_.clear();
}

}  // namespace fovea::cli
