// fovea explain: which kernels serve a layer, why, and why not the others.
#include <fmt/format.h>

#include <memory>

#include "cli/commands.h"
#include "cli/results.h"

namespace fovea::cli {
namespace {

struct ExplainOptions {
  WorkloadChoice workload;
  EngineChoice engine;
  PolicyChoice policy;
  std::string json;
};

int run_explain(const ExplainOptions& options) {
  Results results("explain", options.json);
  const bench::Workload workload = options.workload.make();
  const Engine engine(options.engine.options());
  const Attention attention = engine.prepare(workload.spec, bench::limits_of(workload), options.policy.options());
  const std::string text = attention.explain();
  results.print("{}{}", text, text.ends_with('\n') ? "" : "\n");
  results.write({{"workload", workload.name},
                 {"backend", options.engine.backend},
                 {"spec", attention.spec().to_string()},
                 {"limits", attention.limits().to_string()},
                 {"workspace_bytes", attention.workspace_bytes()},
                 {"text", text}});
  return 0;
}

}  // namespace

void add_explain(CLI::App& app, Action& action) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App* command =
      app.add_subcommand("explain", "Say which kernels serve a layer and why, every other kernel's refusal, and buffer sizes");
  options->workload.add_to(*command);
  options->engine.add_to(*command);
  options->policy.add_to(*command);
  add_json_option(*command, options->json);
  command->footer(
      "Examples:\n"
      "  fovea explain decode_b64_kv4k\n"
      "  fovea explain zipf_b64 --policy batch_invariant\n"
      "  fovea explain --variant causal+soft_cap --head-dim 256 --kv-dtype e4m3");
  command->callback([options, &action] { action = [options] { return run_explain(*options); }; });
}

}  // namespace fovea::cli
