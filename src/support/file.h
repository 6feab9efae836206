// Files as strings. Errors are values: what is wrong with a cache's disk is never the caller's failure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fovea {

std::optional<std::string> read_file(const std::string& path);

/// Writes beside `path`, then renames: readers see the old file or the new one, whole. Returns why not, or nothing.
std::string write_file(const std::string& path, std::string_view bytes);

/// A folder of its own for this process, removed with everything in it by the destructor.
class TemporaryFolder {
 public:
  TemporaryFolder();  // below TMPDIR, /tmp or /dev/shm; throws DeviceFailed when none can be written
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace fovea
