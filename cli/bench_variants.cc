// fovea bench variants: what variants cost, as ratios of two layers that take turns: a mask that hides most of the cache against a cache
// without what is hidden, a user's text against the same built in, rotary embedding in the kernel against none.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>

#include "bench/layer.h"
#include "cli/bench_points.h"
#include "cli/commands.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

constexpr std::int32_t kContext = 16384;
constexpr std::int32_t kDocuments = 16;

struct VariantsOptions {
  EngineChoice engine;
  std::string json;
  std::vector<std::string> only;
  std::int64_t pairs = 15;
};

/// What is timed against what, and what the ratio should not exceed (0: nothing is promised).
struct Comparison {
  std::string name, about;
  bench::Workload workload, against;
  double bar = 0;
};

/// variants/soft_cap.h once more, as a user would give it.
const Variant kOwnCap = Variant::from_source("own_cap", R"(
struct OwnCap : VariantBase {
  struct Params {
    float cap;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED_ABOVE_ZERO(cap))
  };
  template <class T>
  FOVEA_FN T transform_logit(T logit, const Position<>&) const {
    return T(p.cap) * math::tanh(logit / T(p.cap));
  }
  Params p;
};
)");

/// causal+document with branches: right, and opaque.
const Variant kOpaqueDocument = Variant::from_source("opaque_document", R"(
struct OpaqueDocument : VariantBase {
  struct Mask {
    Table<int32_t> document_ids, document_indptr;
    FOVEA_FN bool keep(const Position<>& at) const {
      if (at.kv_pos > at.q_pos) {
        return false;
      }
      const int32_t begin = document_indptr[at.request];
      return document_ids[begin + at.q_pos] == document_ids[begin + at.kv_pos];
    }
    FOVEA_FN constexpr KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED(document_ids), FOVEA_REQUIRED_TABLE(document_indptr, request_bounds))
  };
  Mask m;
};
)");

bench::Workload layer_of(const Variant& variant, std::int32_t qo_heads, std::int32_t kv_heads, std::size_t requests,
                         bench::RequestLengths lengths) {
  bench::Workload workload;
  workload.name = variant.name;
  workload.spec.variant = variant;
  workload.spec.num_qo_heads = qo_heads;
  workload.spec.num_kv_heads = kv_heads;
  workload.spec.head_dim_qk = 128;
  workload.spec.formats = {KvFormat::paged(16)};
  workload.requests.assign(requests, lengths);
  return workload;
}

bench::Workload decode_layer(const Variant& variant, std::int32_t kv_len) {
  return layer_of(variant, 16, 4, 8, {.qo_len = 1, .kv_len = kv_len});
}
bench::Workload prefill_layer(const Variant& variant, std::size_t requests, std::int32_t tokens) {
  return layer_of(variant, 4, 1, requests, {.qo_len = tokens, .kv_len = tokens});
}

void add_documents(bench::Workload& workload) {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < kContext; ++i) {
    ids.push_back(i / (kContext / kDocuments));
  }
  workload.mask = {{"document_ids", ids}, {"document_indptr", std::vector<std::int32_t>{0, kContext}}};
}

void add_rotary_table(bench::Workload& workload, std::int32_t positions) {
  const std::int32_t columns = workload.spec.head_dim_qk;
  std::vector<float> cos_sin(static_cast<std::size_t>(positions) * static_cast<std::size_t>(columns));
  for (std::int32_t p = 0; p < positions; ++p) {
    for (std::int32_t i = 0; i < columns / 2; ++i) {
      const double angle = p * std::pow(10000.0, -2.0 * i / columns);
      float* row = cos_sin.data() + static_cast<std::int64_t>(p) * columns;
      row[i] = static_cast<float>(std::cos(angle));
      row[i + columns / 2] = static_cast<float>(std::sin(angle));
    }
  }
  workload.params.push_back({"cos_sin", bench::FloatTable{std::move(cos_sin), columns}});
}

std::vector<Comparison> comparisons() {
  std::vector<Comparison> all;
  Comparison window{.name = "window_decode",
                    .about = "a window of 128 in 16k : a cache of 128",
                    .workload = decode_layer("sliding_window", kContext),
                    .against = decode_layer("causal", 128),
                    .bar = 1.3};
  window.workload.mask = {{"window_left", std::int64_t{127}}};
  all.push_back(std::move(window));

  Comparison documents{.name = "document_prefill",
                       .about = "16 documents in 16k : apart",
                       .workload = prefill_layer("causal+document", 1, kContext),
                       .against = prefill_layer("causal", kDocuments, kContext / kDocuments),
                       .bar = 1.3};
  add_documents(documents.workload);
  Comparison opaque = documents;
  all.push_back(std::move(documents));
  opaque.name = "opaque_prefill";
  opaque.about = "the same with an opaque mask and classes of its tiles : apart";
  opaque.workload = prefill_layer(kOpaqueDocument, 1, kContext);
  add_documents(opaque.workload);
  opaque.bar = 0;
  all.push_back(std::move(opaque));

  Comparison own_decode{.name = "own_decode",
                        .about = "a soft cap given as text : built in, decode",
                        .workload = decode_layer("causal" + kOwnCap, 4096),
                        .against = decode_layer("causal+soft_cap", 4096),
                        .bar = 1.03};
  Comparison own_prefill{.name = "own_prefill",
                         .about = "a soft cap given as text : built in, prefill",
                         .workload = prefill_layer("causal" + kOwnCap, 1, 2048),
                         .against = prefill_layer("causal+soft_cap", 1, 2048),
                         .bar = 1.03};
  for (Comparison* own : {&own_decode, &own_prefill}) {
    own->workload.params = own->against.params = {{"cap", 30.0}};
    all.push_back(*own);
  }

  Comparison rope{.name = "rope_decode",
                  .about = "keys turned in the kernel, by a table : stored turned, decode",
                  .workload = decode_layer("causal+rope_neox", 4096),
                  .against = decode_layer("causal", 4096)};
  add_rotary_table(rope.workload, 4096);
  Comparison rope_prefill{.name = "rope_prefill",
                          .about = "the same, prefill",
                          .workload = prefill_layer("causal+rope_neox", 1, 2048),
                          .against = prefill_layer("causal", 1, 2048)};
  add_rotary_table(rope_prefill.workload, 2048);
  Comparison computed{.name = "rope_computed_decode",
                      .about = "keys turned in the kernel, angles computed : stored turned, decode",
                      .workload = decode_layer("causal+rope_neox", 4096),
                      .against = decode_layer("causal", 4096)};
  all.push_back(std::move(rope));
  all.push_back(std::move(rope_prefill));
  all.push_back(std::move(computed));
  return all;
}

Point measure(const Engine& engine, Comparison comparison, int pairs) {
  std::optional<ClassifiedTiles> tiles;
  bench::Workload& workload = comparison.workload;
  if (workload.spec.variant.name == kOpaqueDocument.name) {
    const bench::BatchArrays arrays(workload, false);
    const bench::WorkloadValues values(workload);
    const Attention attention = engine.prepare(workload.spec, bench::limits_of(workload));
    tiles = attention.classify_tiles(arrays.batch(), values.mask(), {.heads_alike = true});
    workload.tiles = tiles->view();
  }
  bench::Layer layer(engine, workload, 1), against(engine, comparison.against, 1);
  const std::vector<bench::Contestant> contestants = {{comparison.name, [&] { layer.run(0); }}, {"against", [&] { against.run(0); }}};
  Progress progress(comparison.name, 1);
  const auto times = bench::take_turns(contestants, pairs, [&](int done, int total) { progress.update(done, std::int64_t{total}); });
  const bench::Quantiles ratio = bench::quantiles(bench::ratios(times[0], times[1]));
  Point point{.workload = comparison.name, .us = bench::quantiles(times[0]), .ratio = ratio.median, .against = comparison.about};
  point.more = {{"ratio_p10", ratio.p10},
                {"ratio_p90", ratio.p90},
                {"against_median_us", bench::median(times[1])},
                {"bar", comparison.bar > 0 ? Json(comparison.bar) : Json()}};
  return point;
}

/// CPU seconds of the compiler for a small text, past every cache.
CompileRecord compile_once(const EngineOptions& options) {
  const char* before = std::getenv("FOVEA_CACHE_DIR");
  const std::optional<std::string> folder = before != nullptr ? std::optional<std::string>(before) : std::nullopt;
  setenv("FOVEA_CACHE_DIR", "", 1);  // read once, when an engine is made
  const Engine engine(options);
  folder ? setenv("FOVEA_CACHE_DIR", folder->c_str(), 1) : unsetenv("FOVEA_CACHE_DIR");
  const bench::Workload workload = decode_layer("causal" + kOwnCap, 64);
  engine.prepare(workload.spec, bench::limits_of(workload));
  return engine.compiled().at(0);
}

int run_variants(const VariantsOptions& options) {
  constexpr double kCompileBar = 1.5;
  Results results("bench variants", options.json);
  const Engine engine(options.engine.options());
  std::vector<Comparison> chosen = comparisons();
  if (!options.only.empty()) {
    std::vector<std::string> names;
    for (const Comparison& comparison : chosen) {
      names.push_back(comparison.name);
    }
    for (const std::string& name : options.only) {
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        throw InvalidArgument(fmt::format("--only: '{}' is not known; known: {}", name, bench::choices(name, names)));
      }
    }
    std::erase_if(chosen,
                  [&](const Comparison& c) { return std::find(options.only.begin(), options.only.end(), c.name) == options.only.end(); });
  }
  results.print("{}", machine_line(engine.describe()));
  results.print("{:<22}{:>7}{:>15}{:>7}{:>10}{:>10}  {}\n", "ratio", "median", "p10 .. p90", "bar", "time", "against",
                "what : against what");
  std::vector<Point> points;
  for (Comparison& comparison : chosen) {
    const double bar = comparison.bar;
    points.push_back(measure(engine, std::move(comparison), static_cast<int>(options.pairs)));
    const Point& point = points.back();
    results.print("{:<22}{:>7.2f}{:>15}{:>7}{:>10}{:>10}  {}\n", point.workload, point.ratio,
                  fmt::format("{:.2f} .. {:.2f}", point.more["ratio_p10"].get<double>(), point.more["ratio_p90"].get<double>()),
                  bar > 0 ? fmt::format("{:.2f}", bar) : "", duration_text(point.us.median),
                  duration_text(point.more["against_median_us"].get<double>()), point.against);
  }
  const CompileRecord compiled = compile_once(options.engine.options());
  results.print("{:<22}{:>7.2f}{:>15}{:>7.2f}  CPU s of {}\n", "compile", compiled.cpu_seconds, "", kCompileBar, compiled.compiler);
  Json json = json_of(points, static_cast<int>(options.engine.num_threads));
  json["compile"] = {
      {"cpu_seconds", compiled.cpu_seconds}, {"seconds", compiled.seconds}, {"compiler", compiled.compiler}, {"bar", kCompileBar}};
  results.write(json);
  return 0;
}

}  // namespace

void add_bench_variants(CLI::App& bench, Action& action) {
  auto options = std::make_shared<VariantsOptions>();
  CLI::App* command = bench.add_subcommand("variants", "What variants cost: windows, documents, a user's text, rotary embedding");
  options->engine.add_to(*command);
  command->add_option("--only", options->only, "These ratios alone")->type_name("NAME");
  add_integer(*command, "--pairs", options->pairs, 1, 10000, "Rounds in which the two sides take turns");
  add_json_option(*command, options->json);
  command->footer("A ratio is the median over rounds of the left side's time over the right side's; `bar` is what it should not exceed.");
  command->callback([options, &action] { action = [options] { return run_variants(*options); }; });
}

}  // namespace fovea::cli
