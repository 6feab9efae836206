// Where users have NVRTC. Looks at folders and file names alone: nothing is opened.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include "backends/cuda/nvrtc.h"

namespace fovea::cuda {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLibrary = "libnvrtc.so.";
constexpr std::string_view kBuiltins = "libnvrtc-builtins.so.";

/// The folder's entries, sorted; none when it can't be read.
std::vector<fs::path> entries_of(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    entries.push_back(it->path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

/// "13.5.37" -> 13 and 5; false when it doesn't begin with a number.
bool parse_version(std::string_view text, int& major, int& minor) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), major);
  if (error != std::errc{}) {
    return false;
  }
  minor = 0;
  const char* last = text.data() + text.size();
  if (end != last && *end == '.') {
    std::from_chars(end + 1, last, minor);
  }
  return true;
}

/// NVRTC in one folder. The builtins' name has the whole version; the library's often has the major one alone.
std::vector<NvrtcPlace> nvrtc_in(const NvrtcFolder& folder) {
  std::vector<NvrtcPlace> places;
  const std::vector<fs::path> entries = entries_of(folder.path);
  std::set<int> seen;
  for (const fs::path& entry : entries) {
    const std::string name = entry.filename();
    int major = 0, minor = 0;
    if (!name.starts_with(kBuiltins) || !parse_version(std::string_view(name).substr(kBuiltins.size()), major, minor) ||
        !seen.insert(1000 * major + minor).second) {
      continue;
    }
    for (const fs::path& library : entries) {
      const std::string library_name = library.filename();
      int library_major = 0, library_minor = 0;
      if (library_name.starts_with(kLibrary) &&
          parse_version(std::string_view(library_name).substr(kLibrary.size()), library_major, library_minor) && library_major == major &&
          (library_minor == 0 || library_minor == minor)) {
        places.push_back({.library = library, .builtins = entry, .origin = folder.origin, .major = major, .minor = minor});
        break;
      }
    }
  }
  return places;
}

/// Where pip puts NVIDIA's packages below the prefix of a Python.
void add_python(std::vector<NvrtcFolder>& folders, const fs::path& prefix) {
  for (const char* lib : {"lib", "lib64", "local/lib"}) {
    for (const fs::path& python : entries_of(prefix / lib)) {
      if (!python.filename().string().starts_with("python3")) {
        continue;
      }
      for (const char* site : {"site-packages", "dist-packages"}) {
        for (const fs::path& package : entries_of(python / site / "nvidia")) {
          const std::string name = package.filename();
          if (name == "cuda_nvrtc" || name.starts_with("cu1")) {
            folders.push_back({.path = package / "lib", .origin = fmt::format("Python package in {}", prefix.string())});
          }
        }
      }
    }
  }
}

/// Prefixes of the Pythons on PATH: of the environment that a link stands in, and of where it leads.
std::vector<fs::path> pythons_on(const std::string& path) {
  std::vector<fs::path> prefixes;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    const fs::path program = fs::path(path.substr(begin, end - begin)) / "python3";
    begin = end + 1;
    std::error_code error;
    if (!fs::exists(program, error)) {
      continue;
    }
    prefixes.push_back(program.parent_path().parent_path());
    const fs::path real = fs::canonical(program, error);
    if (!error) {
      prefixes.push_back(real.parent_path().parent_path());
    }
  }
  return prefixes;
}

void add_toolkit(std::vector<NvrtcFolder>& folders, const fs::path& toolkit) {
  for (const char* lib : {"lib64", "targets/x86_64-linux/lib"}) {
    folders.push_back({.path = toolkit / lib, .origin = fmt::format("CUDA toolkit {}", toolkit.string())});
  }
}

}  // namespace

std::vector<NvrtcFolder> nvrtc_folders(const Variables& variables, const std::string& root) {
  std::vector<NvrtcFolder> folders;
  if (const auto given = variables("FOVEA_NVRTC_PATH"); given && !given->empty()) {
    std::error_code error;
    const fs::path path = *given;
    folders.push_back({.path = fs::is_directory(path, error) ? path : path.parent_path(), .origin = "FOVEA_NVRTC_PATH"});
    return folders;
  }
  for (const char* name : {"VIRTUAL_ENV", "CONDA_PREFIX"}) {
    if (const auto prefix = variables(name); prefix && !prefix->empty()) {
      add_python(folders, *prefix);
      folders.push_back({.path = fs::path(*prefix) / "lib", .origin = fmt::format("{} {}", name, *prefix)});  // conda's own packages
    }
  }
  for (const fs::path& prefix : pythons_on(variables("PATH").value_or(""))) {
    add_python(folders, prefix);
  }
  if (const auto home = variables("HOME"); home && !home->empty()) {
    add_python(folders, fs::path(*home) / ".local");
  }
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const auto toolkit = variables(name); toolkit && !toolkit->empty()) {
      add_toolkit(folders, *toolkit);
    }
  }
  for (const fs::path& entry : entries_of(root + "/usr/local")) {
    if (entry.filename().string().starts_with("cuda")) {
      add_toolkit(folders, entry);
    }
  }
  for (const char* lib : {"/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/opt/cuda/lib64"}) {
    folders.push_back({.path = root + lib, .origin = "system"});
  }
  return folders;
}

std::vector<NvrtcPlace> find_nvrtc(std::span<const NvrtcFolder> folders, int driver_version) {
  std::vector<NvrtcPlace> places;
  std::set<fs::path> seen;
  for (const NvrtcFolder& folder : folders) {
    for (NvrtcPlace& place : nvrtc_in(folder)) {
      std::error_code error;
      if (!seen.insert(fs::canonical(place.builtins, error)).second) {
        continue;
      }
      if (place.version() < kOldestNvrtc) {
        place.refusal = fmt::format("older than {}.{}", kOldestNvrtc / 1000, kOldestNvrtc % 1000 / 10);
      } else if (driver_version > 0 && place.major > driver_version / 1000) {
        // HW: a driver loads cubins of its own major version, also of a newer minor one, and of older majors.
        place.refusal = fmt::format("its cubins need a driver of CUDA {}, this one is of {}", place.major, driver_version / 1000);
      }
      places.push_back(std::move(place));
    }
  }
  std::stable_sort(places.begin(), places.end(), [](const NvrtcPlace& a, const NvrtcPlace& b) {
    if (a.refusal.empty() != b.refusal.empty()) {
      return a.refusal.empty();
    }
    return a.version() > b.version();
  });
  return places;
}

std::string describe(const NvrtcPlace& place) {
  return fmt::format("NVRTC {}.{} ({}, {})", place.major, place.minor, place.library, place.origin);
}

}  // namespace fovea::cuda
