// fovea cache: what is kept of run-time compiles, and making it smaller.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <memory>

#include "cli/commands.h"
#include "cli/results.h"
#include "cli/terminal.h"
#include "fovea/compile.h"

namespace fovea::cli {
namespace {

struct CacheOptions {
  std::string json;
  std::int64_t megabytes = 0;
};

Json json_of(const std::vector<CacheEntry>& entries) {
  Json list = Json::array();
  for (const CacheEntry& entry : entries) {
    list.push_back({{"name", entry.name},
                    {"bytes", entry.bytes},
                    {"used", fmt::format("{:%FT%TZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(entry.used)))}});
  }
  return list;
}

std::int64_t bytes_of(const std::vector<CacheEntry>& entries) {
  std::int64_t bytes = 0;
  for (const CacheEntry& entry : entries) {
    bytes += entry.bytes;
  }
  return bytes;
}

int run_list(const CacheOptions& options) {
  Results results("cache list", options.json);
  const std::vector<CacheEntry> entries = cache_entries();
  for (const CacheEntry& entry : entries) {
    results.print("{:%F}  {:>9}  {}\n", fmt::gmtime(std::chrono::system_clock::to_time_t(entry.used)), bytes_text(entry.bytes), entry.name);
  }
  results.print("{} entries, {}, in {}\n", entries.size(), bytes_text(bytes_of(entries)),
                cache_folder().empty() ? "no cache" : cache_folder());
  results.write({{"cache", cache_folder()}, {"bytes", bytes_of(entries)}, {"entries", json_of(entries)}});
  return 0;
}

int run_prune(const CacheOptions& options, const char* command) {
  Results results(command, options.json);
  const std::vector<CacheEntry> removed = prune_cache(options.megabytes * 1'000'000);
  results.print("{} entries removed, {}; {} left\n", removed.size(), bytes_text(bytes_of(removed)), bytes_text(bytes_of(cache_entries())));
  results.write({{"cache", cache_folder()}, {"bytes", bytes_of(cache_entries())}, {"removed", json_of(removed)}});
  return 0;
}

}  // namespace

void add_cache(CLI::App& app, Action& action) {
  auto options = std::make_shared<CacheOptions>();
  CLI::App* command = app.add_subcommand("cache", "List what is kept of run-time compiles, or remove it");
  command->require_subcommand(1);
  CLI::App* list = command->add_subcommand("list", "Entries, the latest used first");
  add_json_option(*list, options->json);
  list->callback([options, &action] { action = [options] { return run_list(*options); }; });
  CLI::App* prune = command->add_subcommand("prune", "Remove the entries longest unused until the rest fits");
  add_integer(*prune, "--to-mb", options->megabytes, 0, 1'000'000, "Megabytes to leave")->required();
  add_json_option(*prune, options->json);
  prune->callback([options, &action] { action = [options] { return run_prune(*options, "cache prune"); }; });
  CLI::App* clear = command->add_subcommand("clear", "Remove every entry");
  add_json_option(*clear, options->json);
  clear->callback([options, &action] { action = [options] { return run_prune(*options, "cache clear"); }; });
}

}  // namespace fovea::cli
