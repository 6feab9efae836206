// The `fovea` command. Exit codes: 0 done, 1 a check failed, 2 bad input, 3 something else went wrong, 130 Ctrl-C.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

constexpr int kBadInput = 2;
constexpr int kTrouble = 3;
constexpr int kInterrupted = 130;

void describe(CLI::App& app) {
  app.name("fovea");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("fovea ") + kVersion);
}

/// After the commands are added: they would inherit it.
void add_footer(CLI::App& app) {
  app.footer(
      "Examples:\n"
      "  fovea replay traces/chat.jsonl           a serving trace through the engine\n"
      "  fovea check                              is everything right on this machine?\n"
      "  fovea plan zipf_b64 --workers 16         who does what, as a picture\n"
      "  fovea explain window_gpt_oss             which kernel, and why\n"
      "  fovea bench decode                       how close to the memory's speed\n"
      "\n"
      "Every command has --help, and --json FILE for scripts (docs/json.md).\n"
      "Exit codes: 0 done, 1 a check failed, 2 bad input, 3 something else went wrong.");
}

/// Messages of CLI11 in the style of the others. `words`: the command line.
std::string explained(const CLI::App& chosen, const std::string& command, const CLI::ParseError& error,
                      const std::vector<std::string>& words) {
  std::string what = error.what();
  const std::size_t colon = what.find(": ");
  const std::string after = colon == std::string::npos ? what : what.substr(colon + 2);
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    return fmt::format("'{}' is not an option or argument of {}", after, command);
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr && colon != std::string::npos) {
    const bool twice = after.find("At Most") != std::string::npos;
    return twice ? fmt::format("{}: given more than once; give it once", what.substr(0, colon))
                 : fmt::format("{}: no value given ({})", what.substr(0, colon), after);
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) == nullptr) {
    return what;
  }
  std::vector<std::string> known;
  for (const CLI::App* subcommand : chosen.get_subcommands([](const CLI::App*) { return true; })) {
    known.push_back(subcommand->get_name());
  }
  // What stands where the command should; options may come before it.
  const auto begin = std::find(words.begin(), words.end(), chosen.get_name());
  const auto first = begin == words.end() ? words.begin() : begin + 1;
  const auto given = std::find_if(first, words.end(), [](const std::string& word) { return !word.starts_with('-'); });
  if (given == words.end()) {
    return fmt::format("no command given; known: {}", fmt::join(known, ", "));
  }
  return fmt::format("command '{}' is not known; known: {}", *given, bench::choices(*given, known));
}

/// The command line's own mistakes, as one line.
int report(const CLI::App& app, const CLI::ParseError& error, const std::vector<std::string>& words) {
  if (error.get_exit_code() == 0) {  // --help and --version
    return app.exit(error);
  }
  std::string command = "fovea";
  const CLI::App* chosen = &app;
  while (!chosen->get_subcommands().empty()) {
    chosen = chosen->get_subcommands().front();
    command += " " + chosen->get_name();
  }
  fmt::print(stderr, "fovea: {}; see {} --help\n", explained(*chosen, command, error, words), command);
  return kBadInput;
}

int run(int argc, char** argv) {
  CLI::App app("Attention for LLM inference serving: check, look inside and measure the fovea engine.");
  Action action;
  describe(app);
  add_replay(app, action);
  add_check(app, action);
  add_plan(app, action);
  add_explain(app, action);
  add_devices(app, action);
  add_bench(app, action);
  add_compile(app, action);
  add_cache(app, action);
  add_footer(app);
  try {
    app.parse(argc, argv);
    catch_interrupts();
    const int code = action();
    if (code == 0 && (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)) {
      fmt::print(stderr, "fovea: standard output can't be written; is the disk full?\n");
      return kTrouble;
    }
    return code;
  } catch (const CLI::ParseError& error) {
    return report(app, error, {argv + 1, argv + argc});
  } catch (const Interrupted&) {
    fmt::print(stderr, "fovea: interrupted\n");
    return kInterrupted;
  } catch (const Error& error) {
    fmt::print(stderr, "fovea: {}\n", error.what());
    const bool callers = error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::unsupported;
    return callers ? kBadInput : kTrouble;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "fovea: out of memory; try a smaller workload\n");
  } catch (const std::exception& error) {
    fmt::print(stderr, "fovea: {}\n", error.what());
  }
  return kTrouble;
}

}  // namespace
}  // namespace fovea::cli

int main(int argc, char** argv) { return fovea::cli::run(argc, argv); }
