#include "bench/machine.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

namespace fovea::bench {
namespace {

/// Value of the first line "key<spaces><separator> value", or "".
std::string value_of(const char* path, const std::string& key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t mark = line.find(separator);
    if (mark == std::string::npos || line.compare(0, key.size(), key) != 0) {
      continue;
    }
    if (line.find_first_not_of(" \t", key.size()) != mark) {
      continue;
    }
    const std::size_t begin = line.find_first_not_of(" \t\"", mark + 1);
    const std::size_t end = line.find_last_not_of(" \t\"");
    return begin == std::string::npos || end < begin ? std::string() : line.substr(begin, end - begin + 1);
  }
  return {};
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::int64_t kibibytes_of(const std::string& key) { return std::atoll(value_of("/proc/meminfo", key, ':').c_str()) * 1024; }

std::int64_t largest_cache_bytes() {
  std::int64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    const std::string text = first_line(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", index));
    char* unit = nullptr;
    const long long number = std::strtoll(text.c_str(), &unit, 10);
    const std::int64_t factor = unit != nullptr && *unit == 'M' ? 1 << 20 : 1 << 10;
    largest = std::max<std::int64_t>(largest, number * factor);
  }
  return largest;
}

int allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

std::vector<std::string> known_features() {
  static const char* const kNames[] = {"sse4_2",   "avx",      "avx2",     "fma",         "f16c",        "avx_vnni",    "avx512f",
                                       "avx512bw", "avx512vl", "avx512dq", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile",
                                       "amx_bf16", "amx_int8", "asimd",    "sve",         "sve2",        "bf16"};
  std::istringstream words(value_of("/proc/cpuinfo", "flags", ':') + " " + value_of("/proc/cpuinfo", "Features", ':'));
  const std::vector<std::string> flags{std::istream_iterator<std::string>(words), {}};
  std::vector<std::string> found;
  for (const char* name : kNames) {
    if (std::find(flags.begin(), flags.end(), name) != flags.end()) {
      found.emplace_back(name);
    }
  }
  return found;
}

}  // namespace

Machine this_machine() {
  Machine machine;
  utsname system{};
  uname(&system);
  machine.cpu = value_of("/proc/cpuinfo", "model name", ':');
  machine.architecture = system.machine;
  machine.system = fmt::format("{} {}", system.sysname, system.release);
  if (const std::string name = value_of("/etc/os-release", "PRETTY_NAME", '='); !name.empty()) {
    machine.system += ", " + name;
  }
  machine.features = known_features();
  machine.num_cores = allowed_cores();
  machine.memory_bytes = kibibytes_of("MemTotal");
  machine.available_bytes = kibibytes_of("MemAvailable");
  if (const std::int64_t allowed = std::atoll(first_line("/sys/fs/cgroup/memory.max").c_str()); allowed > 0) {
    machine.memory_bytes = std::min(machine.memory_bytes, allowed);
    machine.available_bytes = std::min(machine.available_bytes, allowed);
  }
  machine.last_cache_bytes = largest_cache_bytes();
  return machine;
}

}  // namespace fovea::bench
