// fovea explain: which kernels serve a layer, why, and why not the others.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <fstream>
#include <memory>

#include "bench/batch_arrays.h"
#include "cli/commands.h"
#include "cli/mask_picture.h"
#include "cli/results.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

struct ExplainOptions {
  WorkloadChoice workload;
  EngineChoice engine;
  PolicyChoice policy;
  std::string json;
  std::string picture;
  bool variants = false;
};

int list_variants(const Engine& engine, Results& results) {
  Json variants = Json::array();
  for (const VariantDescription& v : engine.variants()) {
    std::string values = v.masks.empty() ? "" : fmt::format("  mask: {}", fmt::join(v.masks, ", "));
    values += v.params.empty() ? "" : fmt::format("  params: {}", fmt::join(v.params, ", "));
    results.print("{:<26}{}{}\n", v.name, v.interval, values);
    variants.push_back({{"name", v.name}, {"masks", v.masks}, {"params", v.params}, {"interval", v.interval}});
  }
  results.write({{"variants", variants}});
  return 0;
}

/// What the mask makes of the workload's tiles, by a plan that needs no memory for partial states.
TileCounts count_tiles(const Engine& engine, const bench::Workload& workload) {
  const Attention attention = engine.prepare(workload.spec, bench::limits_of(workload), {.max_workspace_bytes = 0});
  Plan plan = attention.new_plan();
  bench::BatchArrays arrays(workload, false);
  arrays.put_pages_on(engine);
  const bench::WorkloadValues values(workload, &engine);
  attention.plan(plan, arrays.batch(), values.plan_args());
  return attention.count_tiles(plan);
}

std::string share_text(std::int64_t count, std::int64_t total) {
  return fmt::format("{} ({:.1f} %)", count, total == 0 ? 0.0 : 100.0 * static_cast<double>(count) / static_cast<double>(total));
}

/// One request of 48 tokens, unless the command line says something about the batch.
bench::Workload workload_to_draw(WorkloadChoice choice) {
  constexpr const char* kTokens = "48";
  if (choice.name.empty() && choice.qo_len.empty() && choice.kv_len.empty() && !choice.requests) {
    const bool tree = choice.rule.variant.find("custom_mask") != std::string::npos;
    choice.requests = 1;
    choice.qo_len = tree ? "14" : kTokens;
    choice.kv_len = kTokens;
  }
  bench::Workload workload = choice.make();
  workload.requests.resize(1);
  workload.prefixes.clear();
  workload.spec.formats.resize(1);
  add_example_values(workload);
  return workload;
}

int draw_mask(const ExplainOptions& options, const Engine& engine, Results& results) {
  const MaskPicture picture = picture_of_mask(engine, workload_to_draw(options.workload));
  if (options.picture == "-") {
    results.print("{}", text_of(picture));
  } else {
    std::ofstream file(options.picture, std::ios::binary);
    file << svg_of(picture);
    if (!file.flush()) {
      throw InvalidArgument(fmt::format("--picture: '{}' can't be written; name a file that ends in .svg, or -", options.picture));
    }
    results.print("{}: {}\n", options.picture, picture.title);
  }
  results.write({{"picture", options.picture},
                 {"title", picture.title},
                 {"tiles", {{"empty", picture.count(0)}, {"mixed", picture.count(1)}, {"full", picture.count(2)}}}});
  return 0;
}

int run_explain(const ExplainOptions& options) {
  if (options.variants && !options.picture.empty()) {
    throw InvalidArgument("--picture: is given with --variants, which lists variants instead; give one of them");
  }
  Results results("explain", options.json);
  const Engine engine(options.engine.options());
  if (options.variants) {
    return list_variants(engine, results);
  }
  if (!options.picture.empty()) {
    return draw_mask(options, engine, results);
  }
  const bench::Workload workload = options.workload.make();
  const Attention attention = engine.prepare(workload.spec, bench::limits_of(workload), options.policy.options());
  std::string text = attention.explain();
  Json tiles;  // null where the mask's values are not all given
  try {
    const TileCounts counts = count_tiles(engine, workload);
    const std::int64_t total = counts.empty + counts.mixed + counts.full;
    text += fmt::format("tiles of the mask\n  {} empty, {} mixed, {} full\n", share_text(counts.empty, total),
                        share_text(counts.mixed, total), share_text(counts.full, total));
    tiles = {{"empty", counts.empty}, {"mixed", counts.mixed}, {"full", counts.full}};
  } catch (const Error& error) {
    if (!options.workload.rule.mask.empty() && !workload.any_mask && error.code() == ErrorCode::invalid_argument) {
      throw;  // values that were given are wrong
    }
    text += fmt::format("tiles of the mask\n  not counted: {}\n", error.what());
  }
  results.print("{}{}", text, text.ends_with('\n') ? "" : "\n");
  results.write({{"workload", workload.name},
                 {"backend", options.engine.backend},
                 {"spec", attention.spec().to_string()},
                 {"limits", attention.limits().to_string()},
                 {"workspace_bytes", attention.workspace_bytes()},
                 {"tiles", tiles},
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
  command->add_flag("--variants", options->variants, "List the built-in variants instead, and how their masks answer for whole tiles");
  command
      ->add_option(
          "--picture", options->picture,
          "Draw the mask instead, of the batch's first request (default: 48 tokens, with example values): an SVG file, or - for text")
      ->type_name("FILE");
  add_json_option(*command, options->json);
  command->footer(
      "Examples:\n"
      "  fovea explain decode_b64_kv4k\n"
      "  fovea explain zipf_b64 --policy batch_invariant\n"
      "  fovea explain --variant causal+soft_cap --head-dim 256 --kv-dtype e4m3\n"
      "  fovea explain --variant sliding_window --mask window_left=100 --qo-len 300 --kv-len 500 --picture -\n"
      "  fovea explain --variant-file my_mask.h --variant causal+my_mask --picture my_mask.svg");
  command->callback([options, &action] { action = [options] { return run_explain(*options); }; });
}

}  // namespace fovea::cli
