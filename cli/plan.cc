// fovea plan: who does what in a step.
#include <fmt/format.h>

#include <memory>

#include "bench/batch_arrays.h"
#include "cli/commands.h"
#include "cli/plan_picture.h"
#include "cli/results.h"
#include "cli/terminal.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

struct PlanOptions {
  WorkloadChoice workload{.default_name = "zipf_b64"};  // requests of many lengths show best what a planner does
  EngineChoice engine;
  PolicyChoice policy;
  std::string colour = "auto", json;
  std::int64_t columns = 0;
  bool text = false, all = false, list = false;
};

bool wants_colour(const std::string& choice) {
  if (choice != "auto" && choice != "always" && choice != "never") {
    throw InvalidArgument(fmt::format("--color: '{}' is not known; known: auto, always, never", choice));
  }
  return choice == "always" || (choice == "auto" && colour_wanted());
}

std::string counted(std::int64_t count, const char* noun) { return fmt::format("{} {}{}", grouped(count), noun, count == 1 ? "" : "s"); }

std::string spec_line(const bench::Workload& workload) {
  const AttentionSpec& spec = workload.spec;
  const KvFormat& format = spec.formats[0];
  const std::string kv = spec.k_dtype == spec.q_dtype ? "" : fmt::format(", KV {}", name_of(spec.k_dtype));
  return fmt::format("{}, {}, {}; {}, {}{}, {} heads over {}, d{}, {}",
                     counted(static_cast<std::int64_t>(workload.requests.size()), "request"),
                     counted(workload.query_tokens(), "query token"), counted(workload.kv_tokens(), "KV token"), spec.variant.name,
                     name_of(spec.q_dtype), kv, spec.num_qo_heads, spec.num_kv_heads, spec.head_dim_qk,
                     format.has_table ? fmt::format("pages of {}", format.page_size) : "ragged");
}

Json json_of(const bench::Workload& workload, const PlanView& view) {
  Json work = Json::array();
  for (const PlannedWork& w : view.work) {
    work.push_back({{"worker", w.worker},
                    {"format", w.format},
                    {"row_group", w.row_group},
                    {"kv_head", w.kv_head},
                    {"row_begin", w.row_begin},
                    {"row_end", w.row_end},
                    {"col_begin", w.col_begin},
                    {"col_end", w.col_end},
                    {"partial_slot", w.partial_slot}});
  }
  return {{"workload", workload.name},
          {"requests", view.num_requests},
          {"workers", view.num_workers},
          {"row_groups", view.num_row_groups},
          {"partial_slots", view.num_partial_slots},
          {"max_partial_slots", view.max_partial_slots},
          {"merges", view.num_merges},
          {"imbalance", imbalance_of(view)},
          {"worker_cost", view.worker_cost},
          {"work", work}};
}

int list_workloads(Results& results) {
  Json names = Json::array();
  for (const std::string& name : bench::workload_names()) {
    const bench::Workload workload = bench::load_workload(name);
    results.print("{:<24}{}\n", name, workload.about);
    names.push_back({{"name", name}, {"about", workload.about}});
  }
  results.write({{"workloads", names}});
  return 0;
}

int run_plan(const PlanOptions& options) {
  const bool colour = wants_colour(options.colour);
  const PrepareOptions prepare = options.policy.options();
  Results results("plan", options.json);
  if (options.list) {
    return list_workloads(results);
  }
  const bench::Workload workload = options.workload.make();
  const Engine engine(options.engine.options());
  const Attention attention = engine.prepare(workload.spec, bench::limits_of(workload), prepare);
  Plan plan = attention.new_plan();
  bench::BatchArrays arrays(workload, false);
  arrays.put_pages_on(engine);
  const bench::WorkloadValues values(workload, &engine);
  attention.plan(plan, arrays.batch(), values.plan_args());
  const PlanView view = plan.view();
  results.write(json_of(workload, view));
  if (options.text) {
    results.print("{}", view.to_string());
    return 0;
  }
  const PictureStyle style{.columns = options.columns > 0 ? static_cast<int>(options.columns) : std::clamp(terminal_columns(), 72, 200),
                           .colour = colour,
                           .max_rows = options.all ? std::max(view.num_workers, 1) : 24};
  results.print("{}\n{}\n{}, {}, {} of {} (room for {}), imbalance {:.2f}\n\n{}",
                workload.about.empty() ? workload.name : fmt::format("{}: {}", workload.name, workload.about), spec_line(workload),
                counted(view.num_workers, "worker"), counted(static_cast<std::int64_t>(view.work.size()), "work item"),
                counted(view.num_merges, "merge"), counted(view.num_partial_slots, "partial state"), view.max_partial_slots,
                imbalance_of(view), draw_plan(workload, view, style));
  return 0;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = app.add_subcommand("plan", "Draw who does what in a step: a bar per worker, made of the requests it works on");
  options->workload.add_to(*command);
  options->engine.add_to(*command);
  options->policy.add_to(*command);
  command->add_flag("--list", options->list, "List the named workloads");
  command->add_flag("--text", options->text, "Print the plan as a table instead");
  command->add_flag("--all", options->all, "Draw every worker, however many");
  command->add_option("--color", options->colour, "auto, always or never")->type_name("WHEN")->default_str("auto");
  add_integer(*command, "--columns", options->columns, 72, 1000, "Width of the picture; default: the terminal's")->default_str("");
  add_json_option(*command, options->json);
  command->footer(
      "Examples:\n"
      "  fovea plan zipf_b64 --workers 8\n"
      "  fovea plan --requests 6 --kv-len zipf:64..20000 --workers 12\n"
      "  fovea plan mixed_chunked_prefill --text");
  command->callback([options, &action] { action = [options] { return run_plan(*options); }; });
}

}  // namespace fovea::cli
