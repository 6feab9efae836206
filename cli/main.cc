// The `fovea` command. Exit codes: 0 done, 1 a check failed, 2 bad input, 3 something else went wrong, 130 Ctrl-C.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <new>

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
  app.footer(
      "Examples:\n"
      "  fovea check                              is everything right on this machine?\n"
      "  fovea plan zipf_b64 --workers 16         who does what, as a picture\n"
      "  fovea explain window_gpt_oss             which kernel, and why\n"
      "  fovea bench decode                       how close to the memory's speed\n"
      "\n"
      "Every command has --help, and --json FILE for scripts (docs/json.md).\n"
      "Exit codes: 0 done, 1 a check failed, 2 bad input, 3 something else went wrong.");
}

/// The command line's own mistakes, as one line.
int report(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) {  // --help and --version
    return app.exit(error);
  }
  std::string command = "fovea";
  for (const CLI::App* chosen = &app; !chosen->get_subcommands().empty();) {
    chosen = chosen->get_subcommands().front();
    command += " " + chosen->get_name();
  }
  fmt::print(stderr, "fovea: {}; see {} --help\n", error.what(), command);
  return kBadInput;
}

int run(int argc, char** argv) {
  CLI::App app("Attention for LLM inference serving: check, look inside and measure the fovea engine.");
  Action action;
  describe(app);
  add_check(app, action);
  add_plan(app, action);
  add_explain(app, action);
  add_devices(app, action);
  add_bench(app, action);
  try {
    app.parse(argc, argv);
    catch_interrupts();
    return action();
  } catch (const CLI::ParseError& error) {
    return report(app, error);
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
