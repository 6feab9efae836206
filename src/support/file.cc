#include "src/support/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "src/support/check.h"

namespace fovea {

std::optional<std::string> read_file(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return std::nullopt;
  }
  std::string bytes;
  char buffer[1 << 16];
  ssize_t count = 0;
  while ((count = read(file, buffer, sizeof buffer)) > 0 || (count < 0 && errno == EINTR)) {
    bytes.append(buffer, count > 0 ? static_cast<std::size_t>(count) : 0);
  }
  close(file);
  return count == 0 ? std::optional(std::move(bytes)) : std::nullopt;
}

std::string write_file(const std::string& path, std::string_view bytes) {
  static std::atomic<int> counter{0};
  const std::string beside = fmt::format("{}.{}.{}", path, getpid(), counter++);
  const int file = open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0) {
    return fmt::format("{}: {}", beside, std::strerror(errno));
  }
  std::string error;
  while (!bytes.empty() && error.empty()) {
    const ssize_t count = write(file, bytes.data(), bytes.size());
    if (count >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      error = fmt::format("{}: {}", beside, std::strerror(errno));
    }
  }
  if (close(file) != 0 && error.empty()) {
    error = fmt::format("{}: {}", beside, std::strerror(errno));
  }
  if (error.empty() && rename(beside.c_str(), path.c_str()) != 0) {
    error = fmt::format("{}: {}", path, std::strerror(errno));
  }
  if (!error.empty()) {
    unlink(beside.c_str());
  }
  return error;
}

TemporaryFolder::TemporaryFolder() {
  const char* given = std::getenv("TMPDIR");
  std::string tried;
  for (const std::string& parent : {std::string(given == nullptr ? "" : given), std::string("/tmp"), std::string("/dev/shm")}) {
    std::string name = parent + "/fovea-XXXXXX";
    if (!parent.empty() && mkdtemp(name.data()) != nullptr) {
      path_ = name;
      return;
    }
    if (!parent.empty()) {
      tried += fmt::format("{}{} ({})", tried.empty() ? "" : ", ", parent, std::strerror(errno));
    }
  }
  throw DeviceFailed(fmt::format("compile: no temporary folder can be written: {}; set TMPDIR to one", tried));
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace fovea
