// The cache as people manage it: what is in it, and making it smaller.
#include <algorithm>
#include <filesystem>
#include <system_error>

#include "fovea/compile.h"
#include "src/jit/cache.h"

namespace fovea {
namespace {

namespace fs = std::filesystem;

/// An entry's folder is "<label>-<32 hexadecimal digits>". Nothing else in the folder is ours, or is removed.
bool is_entry(const fs::directory_entry& folder) {
  constexpr std::size_t kDigits = 32;
  const std::string name = folder.path().filename().string();
  std::error_code error;
  return name.size() > kDigits + 1 && name[name.size() - kDigits - 1] == '-' &&
         name.find_first_not_of("0123456789abcdef", name.size() - kDigits) == std::string::npos && folder.is_directory(error) &&
         !folder.is_symlink(error);
}

std::chrono::system_clock::time_point system_time(fs::file_time_type time) {
  return std::chrono::time_point_cast<std::chrono::system_clock::duration>(std::chrono::file_clock::to_sys(time));
}

CacheEntry entry_of(const fs::path& folder) {
  CacheEntry entry{.name = folder.filename().string(), .bytes = 0, .used = {}};
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code gone;  // another process may be removing it
    const std::uintmax_t bytes = it->file_size(gone);
    entry.bytes += gone ? 0 : static_cast<std::int64_t>(bytes);
    const fs::file_time_type time = it->last_write_time(gone);
    entry.used = gone ? entry.used : std::max(entry.used, system_time(time));
  }
  return entry;
}

}  // namespace

std::string cache_folder() { return jit::Cache::from_environment().folder(); }

std::vector<CacheEntry> cache_entries() {
  std::vector<CacheEntry> entries;
  const std::string folder = cache_folder();
  std::error_code error;
  if (folder.empty()) {
    return entries;
  }
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (is_entry(*it)) {
      entries.push_back(entry_of(it->path()));
    }
  }
  std::sort(entries.begin(), entries.end(),
            [](const CacheEntry& a, const CacheEntry& b) { return a.used != b.used ? a.used > b.used : a.name < b.name; });
  return entries;
}

std::vector<CacheEntry> prune_cache(std::int64_t bytes) {
  std::vector<CacheEntry> entries = cache_entries(), removed;
  std::int64_t total = 0;
  for (const CacheEntry& entry : entries) {
    total += entry.bytes;
  }
  while (!entries.empty() && total > bytes) {
    std::error_code error;
    fs::remove_all(fs::path(cache_folder()) / entries.back().name, error);
    total -= entries.back().bytes;
    if (!error) {
      removed.push_back(std::move(entries.back()));
    }
    entries.pop_back();
  }
  return removed;
}

}  // namespace fovea
