// fovea devices: what a bug report needs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "bench/machine.h"
#include "cli/commands.h"
#include "cli/results.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}.{}.{}", __clang_major__, __clang_minor__, __clang_patchlevel__);
#elif defined(__GNUC__)
  return fmt::format("g++ {}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
#else
  return "unknown";
#endif
}

#if defined(NDEBUG)
constexpr const char* kBuild = "release";
#else
constexpr const char* kBuild = "with assertions";
#endif

/// What a backend says of itself, or why it can't be used here.
std::string describe_backend(const std::string& name) {
  try {
    return Engine({.backend = name}).describe();
  } catch (const Error& error) {
    return fmt::format("not usable: {}", error.what());
  }
}

int run_devices(const std::string& json) {
  Results results("devices", json);
  const bench::Machine machine = bench::this_machine();
  Json backends = Json::array();
  std::string described;
  for (const char* name : {"cpu", "cuda", "reference"}) {
    const std::string text = describe_backend(name);
    described += fmt::format("  {:<12}{}\n", name, text);
    backends.push_back({{"name", name}, {"description", text}});
  }
  results.print("fovea       {}, {}, {}\n", kVersion, compiler(), kBuild);
  results.print("system      {}\n", machine.system);
  results.print("cpu         {} ({}), {} core{} for this process\n", machine.cpu.empty() ? "unknown" : machine.cpu, machine.architecture,
                machine.num_cores, machine.num_cores == 1 ? "" : "s");
  results.print("features    {}\n", fmt::join(machine.features, " "));
  results.print("last cache  {}\n", machine.last_cache_bytes > 0 ? bytes_text(machine.last_cache_bytes) : "unknown");
  results.print("memory      {}, {} free\n", bytes_text(machine.memory_bytes), bytes_text(machine.available_bytes));
  results.print("backends\n{}", described);
  results.write({{"compiler", compiler()},
                 {"build", kBuild},
                 {"system", machine.system},
                 {"cpu", machine.cpu},
                 {"architecture", machine.architecture},
                 {"features", machine.features},
                 {"cores", machine.num_cores},
                 {"last_cache_bytes", machine.last_cache_bytes},
                 {"memory_bytes", machine.memory_bytes},
                 {"available_bytes", machine.available_bytes},
                 {"backends", backends}});
  return 0;
}

}  // namespace

void add_devices(CLI::App& app, Action& action) {
  auto json = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("devices", "Print what a bug report needs: machine, instruction sets, backends, version, compiler");
  add_json_option(*command, *json);
  command->callback([json, &action] { action = [json] { return run_devices(*json); }; });
}

}  // namespace fovea::cli
