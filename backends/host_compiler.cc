#include "backends/host_compiler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>

#include "src/jit/explain_log.h"
#include "src/support/check.h"
#include "src/support/env.h"
#include "src/support/file.h"
#include "src/support/process.h"

namespace fovea {
namespace {

constexpr int kOldestGcc = 12;  // the oldest that CI builds the library's headers with
constexpr int kOldestClang = 14;

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) {
    words.push_back(word);
  }
  return words;
}

/// The major version after the first word that begins with a digit, outside parentheses: "g++ (Debian 12.2.0-14) 12.2.0" is 12.
int major_version(const std::string& line) {
  int depth = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    depth += line[i] == '(' ? 1 : line[i] == ')' ? -1 : 0;
    if (depth == 0 && (i == 0 || line[i - 1] == ' ') && line[i] >= '0' && line[i] <= '9') {
      return std::atoi(line.c_str() + i);
    }
  }
  return 0;
}

/// A compiler, or why `command` is none.
struct Answer {
  std::optional<HostCompiler> compiler;
  std::string refusal;
};

Answer ask(const std::string& command) {
  std::vector<std::string> words = words_of(command);
  if (words.empty()) {
    return {.refusal = "not set"};
  }
  std::vector<std::string> question = words;
  question.push_back("--version");
  const ProcessResult result = run_process(question);
  if (!result.started || result.status != 0) {
    return {.refusal = result.started ? fmt::format("--version ends with status {}", result.status) : "not found"};
  }
  const std::string version = result.output.substr(0, result.output.find('\n'));
  const bool clang = version.find("clang") != std::string::npos;
  const bool gcc = result.output.find("Free Software Foundation") != std::string::npos;
  if (!clang && !gcc) {
    return {.refusal = fmt::format("'{}' is neither g++ nor clang++", version)};
  }
  const int oldest = clang ? kOldestClang : kOldestGcc;
  if (major_version(version) < oldest) {
    return {.refusal = fmt::format("'{}' is too old; {} {} or newer", version, clang ? "clang" : "g++", oldest)};
  }
  return {.compiler = HostCompiler{.command = std::move(words), .version = version}, .refusal = {}};
}

void write_program(const jit::Program& program, const std::string& folder) {
  const auto write = [&](std::string_view path, std::string_view text) {
    const std::string file = fmt::format("{}/{}", folder, path);
    std::error_code ignored;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path(), ignored);
    if (const std::string error = write_file(file, text); !error.empty()) {
      throw DeviceFailed(fmt::format("compile: a temporary file can't be written: {}; set TMPDIR to a folder with room", error));
    }
  };
  write(program.source_name, program.source);
  for (const jit::Program::Header& header : program.headers) {
    write(header.path, header.text);
  }
  for (const jit::SourceFile& file : program.embedded) {
    write(file.path, file.text);
  }
}

}  // namespace

HostCompiler find_host_compiler(std::string_view what) {
  if (const auto given = text_of_variable("FOVEA_CXX"); given.has_value() && !given->empty()) {
    Answer answer = ask(*given);
    if (!answer.compiler.has_value()) {
      throw CompileFailed(
          fmt::format("compile: {} needs a C++ compiler and FOVEA_CXX = '{}' can't be used: {}", what, *given, answer.refusal));
    }
    return std::move(*answer.compiler);
  }
  std::string refusals;
  for (const char* name : {"CXX", "c++", "g++", "clang++"}) {
    const bool variable = std::string_view(name) == "CXX";
    const std::string command = variable ? text_of_variable("CXX").value_or("") : name;
    Answer answer = ask(command);
    if (answer.compiler.has_value()) {
      return std::move(*answer.compiler);
    }
    refusals += fmt::format("    {:<8} {}{}\n", name, variable && !command.empty() ? command + ": " : "", answer.refusal);
  }
  throw CompileFailed(
      fmt::format("compile: {} is not compiled into the library, so it needs a C++ compiler (g++ {} or clang {}, or newer), and none was "
                  "found:\n{}  install one (apt-get install g++, dnf install gcc-c++) or set FOVEA_CXX to its path",
                  what, kOldestGcc, kOldestClang, refusals));
}

jit::Built compile_shared_object(const HostCompiler& compiler, const jit::Program& program, std::span<const std::string> flags,
                                 std::string_view what) {
  const TemporaryFolder folder;
  write_program(program, folder.path());
  const std::string output = folder.path() + "/artefact.so";
  std::vector<std::string> command = compiler.command;
  command.insert(command.end(), flags.begin(), flags.end());
  command.insert(command.end(), {"-I" + folder.path(), "-o", output, folder.path() + "/" + program.source_name});
  const ProcessResult result = run_process(command);
  jit::Built built{.bytes = {}, .log = result.output, .error = {}, .cpu_seconds = result.cpu_seconds};
  std::optional<std::string> bytes = read_file(output);
  if (result.status == 0 && bytes.has_value() && !bytes->empty()) {
    built.bytes = std::move(*bytes);
    return built;
  }
  built.error =
      fmt::format("compile: {} failed ({})\n{}", what, compiler.version, jit::explain_log(program, result.output, folder.path() + "/"));
  built.log = fmt::format("{}\n\n{}", fmt::join(command, " "), result.output);
  return built;
}

}  // namespace fovea
