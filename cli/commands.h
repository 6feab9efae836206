// The commands. Each adds its subcommand and sets `action` when it is the one chosen.
#pragma once

#include "cli/options.h"

namespace fovea::cli {

void add_check(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_explain(CLI::App& app, Action& action);
void add_devices(CLI::App& app, Action& action);
void add_cache(CLI::App& app, Action& action);
void add_compile(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_replay(CLI::App& app, Action& action);

// Parts of `bench`.
void add_bench_decode(CLI::App& bench, Action& action);
void add_bench_prefill(CLI::App& bench, Action& action);
void add_bench_plan(CLI::App& bench, Action& action);
void add_bench_jit(CLI::App& bench, Action& action);
void add_bench_variants(CLI::App& bench, Action& action);

}  // namespace fovea::cli
