// Results: where a command's output goes. Text for people on standard output, JSON for scripts in a file, or on standard output alone with
// `-`.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fovea::cli {

using Json = nlohmann::ordered_json;

class Results {
 public:
  /// Opens the JSON file, so that a path that can't be written is refused before any work. Throws InvalidArgument.
  Results(std::string command, const std::string& json_path);
  ~Results();
  Results(const Results&) = delete;
  Results& operator=(const Results&) = delete;

  bool for_people() const { return path_ != "-"; }

  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) const {
    if (for_people()) {
      fmt::print(format, std::forward<Args>(args)...);
      std::fflush(stdout);
    }
  }

  /// Writes the object, with version and command in front. Without --json it does nothing.
  void write(const Json& keys);

 private:
  std::string command_;
  std::string path_;
  std::filesystem::path partial_;  // written first and renamed at the end: no half-written results
  std::ofstream file_;
};

}  // namespace fovea::cli
