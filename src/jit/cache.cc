#include "src/jit/cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>
#include <thread>

#include "src/support/check.h"
#include "src/support/env.h"
#include "src/support/file.h"
#include "src/support/log.h"

namespace fovea::jit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kMagic = "fovea artefact 1";
constexpr std::chrono::seconds kLockPatience{120};  // of waiting for another process: longer than any compile of ours

/// Last bytes of an artefact file.
struct Footer {
  std::uint64_t num_bytes, num_log_bytes;
  Digest digest;  // of bytes and log
  char magic[16];
};
static_assert(sizeof(Footer) == 48 && kMagic.size() == sizeof(Footer::magic));

std::string pack(const Built& built) {
  Footer footer{.num_bytes = built.bytes.size(), .num_log_bytes = built.log.size()};
  const std::string_view texts[] = {built.bytes, built.log};
  footer.digest = digest_of(texts);
  std::memcpy(footer.magic, kMagic.data(), kMagic.size());
  std::string file = built.bytes + built.log;
  file.append(reinterpret_cast<const char*>(&footer), sizeof footer);
  return file;
}

std::optional<Artefact> unpack(std::string file) {
  Footer footer;
  if (file.size() < sizeof footer) {
    return std::nullopt;
  }
  const std::uint64_t content = file.size() - sizeof footer;
  std::memcpy(&footer, file.data() + content, sizeof footer);
  if (std::string_view(footer.magic, sizeof footer.magic) != kMagic || footer.num_bytes > content ||
      footer.num_log_bytes != content - footer.num_bytes) {
    return std::nullopt;
  }
  Artefact artefact;
  artefact.log = file.substr(footer.num_bytes, footer.num_log_bytes);
  file.resize(footer.num_bytes);
  artefact.bytes = std::move(file);
  const std::string_view texts[] = {artefact.bytes, artefact.log};
  return digest_of(texts) == footer.digest ? std::optional(std::move(artefact)) : std::nullopt;
}

/// Holds a file's lock for as long as it lives. Best effort: on a disk that has no locks two processes may build the same entry, each into
/// a file of its own.
class Lock {
 public:
  explicit Lock(const std::string& path) : file_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    const Clock::time_point give_up = Clock::now() + kLockPatience;
    while (file_ >= 0 && flock(file_, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || errno == EINTR) && Clock::now() < give_up) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  ~Lock() {
    if (file_ >= 0) {
      close(file_);
    }
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  int file_;
};

/// Why code in this folder must not be loaded, or nothing.
std::string distrust(const std::string& folder) {
  struct stat status;
  if (stat(folder.c_str(), &status) == 0 && (status.st_mode & S_IWOTH) != 0) {
    return fmt::format(
        "every user of this machine can write the cache {}: code in it is not loaded and not kept; chmod o-w, or set "
        "FOVEA_CACHE_DIR",
        folder);
  }
  return {};
}

/// Makes the folder, private to this user. Returns why not, or nothing.
std::string make_folder(const std::string& folder) {
  const std::filesystem::path path(folder);
  if (path.has_parent_path() && path.parent_path() != path) {
    struct stat status;
    if (stat(path.parent_path().c_str(), &status) != 0) {
      if (std::string error = make_folder(path.parent_path().string()); !error.empty()) {
        return error;
      }
    }
  }
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return fmt::format("{}: {}", folder, std::strerror(errno));
  }
  return {};
}

void log_not_kept(const std::string& error) {
  if (!error.empty()) {
    log_once(fmt::format("what is compiled is not kept: {}; set FOVEA_CACHE_DIR to a folder that can be written", error));
  }
}

/// Pruning goes by the time a file was written: now, where that is more than a day ago.
void note_use(const std::string& path) {
  constexpr time_t kDay = 24 * 60 * 60;
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && time(nullptr) - status.st_mtime > kDay) {
    utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
  }
}

Artefact built_artefact(Built built) {
  Artefact artefact;
  artefact.bytes = std::move(built.bytes);
  artefact.log = std::move(built.log);
  artefact.cpu_seconds = built.cpu_seconds;
  return artefact;
}

}  // namespace

Cache Cache::from_environment() {
  if (const auto folder = text_of_variable("FOVEA_CACHE_DIR")) {
    return Cache(folder->empty() ? "" : std::filesystem::absolute(*folder).string());
  }
  if (const auto folder = text_of_variable("XDG_CACHE_HOME"); folder.has_value() && folder->starts_with('/')) {
    return Cache(*folder + "/fovea");
  }
  if (const auto home = text_of_variable("HOME"); home.has_value() && home->starts_with('/')) {
    return Cache(*home + "/.cache/fovea");
  }
  return Cache("");
}

std::string Cache::entry_folder(const CacheKey& key) const {
  std::string label = key.label.substr(0, 80);
  for (char& c : label) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '+';
    c = plain ? c : '_';
  }
  return fmt::format("{}/{}-{}", folder_, label, key.digest.hex());
}

std::optional<Artefact> Cache::find(const CacheKey& key) const {
  if (folder_.empty()) {
    return std::nullopt;
  }
  const Clock::time_point begin = Clock::now();
  const std::string path = entry_folder(key) + "/artefact";
  std::optional<std::string> file = read_file(path);
  if (!file.has_value()) {
    return std::nullopt;
  }
  if (const std::string reason = distrust(folder_); !reason.empty()) {
    log_once(reason);
    return std::nullopt;
  }
  std::optional<Artefact> artefact = unpack(std::move(*file));
  if (!artefact.has_value()) {
    log_once(fmt::format("cache entry {} is damaged; it is built again", path));
    return std::nullopt;
  }
  artefact->path = path;
  artefact->cached = true;
  note_use(path);
  artefact->seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return artefact;
}

Artefact Cache::get_or_build(const CacheKey& key, const Program& program, const std::function<Built()>& build) const {
  if (std::optional<Artefact> found = find(key)) {
    return std::move(*found);
  }
  const Clock::time_point begin = Clock::now();
  const std::string folder = folder_.empty() ? "" : entry_folder(key);
  const std::string reason = folder.empty() ? "" : distrust(folder_);
  if (!reason.empty()) {
    log_once(reason);
  }
  bool keep = !folder.empty() && reason.empty();
  if (keep) {
    const std::string error = make_folder(folder);
    log_not_kept(error);
    keep = error.empty();
  }
  std::optional<Lock> lock;
  if (keep) {
    lock.emplace(folder + "/lock");
    if (std::optional<Artefact> found = find(key)) {  // by who held the lock
      found->seconds = std::chrono::duration<double>(Clock::now() - begin).count();
      return std::move(*found);
    }
    write_file(folder + "/" + program.source_name, program.source);  // for people; a failure shows again below
    for (const Program::Header& header : program.headers) {
      write_file(folder + "/" + std::filesystem::path(header.path).filename().string(), header.text);
    }
  }
  Built built = build();
  if (!built.error.empty()) {
    const bool logged = keep && write_file(folder + "/build.log", built.log).empty();
    throw CompileFailed(logged ? fmt::format("{}\n  source kept in {}; build.log beside it", built.error, folder) : built.error);
  }
  const std::string error = keep ? write_file(folder + "/artefact", pack(built)) : "";
  log_not_kept(error);
  Artefact artefact = built_artefact(std::move(built));
  artefact.path = keep && error.empty() ? folder + "/artefact" : "";
  artefact.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return artefact;
}

}  // namespace fovea::jit
