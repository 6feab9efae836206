// fovea bench: timings against what the machine can do.
#include "cli/commands.h"

namespace fovea::cli {

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("bench", "Time decoding, prefill, planning and variants against something measured beside them");
  command->require_subcommand(1);
  add_bench_decode(*command, action);
  add_bench_prefill(*command, action);
  add_bench_plan(*command, action);
  add_bench_variants(*command, action);
  add_bench_jit(*command, action);
  command->footer(
      "Timings are medians of rounds in which the engine and what it is compared with take turns; p10 and p90 beside them.\n"
      "Examples:\n"
      "  fovea bench decode --json decode.json\n"
      "  fovea bench prefill --workload prefill_b1_2k\n"
      "  fovea bench plan\n"
      "  fovea bench variants");
}

}  // namespace fovea::cli
