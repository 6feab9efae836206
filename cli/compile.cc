// fovea compile: fills the cache for GPUs that are elsewhere.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "cli/commands.h"
#include "cli/results.h"
#include "cli/terminal.h"
#include "fovea/compile.h"
#include "fovea/error.h"
#include "serving/layer_spec.h"
#include "serving/model.h"

namespace fovea::cli {
namespace {

struct CompileOptions {
  std::vector<std::string> architectures = {"sm_80", "sm_90a"}, specs, variant_files;
  std::string variant, kv_dtype = "bf16", json;
};

struct NamedSpec {
  std::string name;
  AttentionSpec spec;
};

AttentionSpec spec_of_model(const std::string& name, DType kv_dtype) {
  constexpr std::int32_t kPageSize = 16;  // changes no code
  const serving::LayerSpec layer{.model = serving::find_model(name), .kv_dtype = kv_dtype};
  return layer.spec(layer.model.num_qo_heads, layer.model.num_kv_heads, kPageSize);
}

/// A model of `replay`, "models" for all of them, or a workload: what is no model.
std::vector<NamedSpec> specs_of(const CompileOptions& options) {
  const DType kv_dtype = bench::parse_dtype("--kv-dtype", options.kv_dtype);
  const std::vector<std::string> models = serving::model_names();
  std::vector<NamedSpec> specs;
  for (const std::string& name : options.specs) {
    if (name == "models") {
      for (const std::string& model : models) {
        specs.push_back({model, spec_of_model(model, kv_dtype)});
      }
    } else if (std::find(models.begin(), models.end(), name.substr(0, name.find("/tp"))) != models.end()) {
      specs.push_back({name, spec_of_model(name, kv_dtype)});
    } else {
      const std::vector<std::string> workloads = bench::workload_names();
      if (!name.ends_with(".json") && std::find(workloads.begin(), workloads.end(), name) == workloads.end()) {
        std::vector<std::string> known = models;
        known.emplace_back("models");
        known.insert(known.end(), workloads.begin(), workloads.end());
        throw InvalidArgument(fmt::format("--spec: '{}' is neither a model nor a workload; known: {}", name, bench::choices(name, known)));
      }
      specs.push_back({name, bench::load_workload(name).spec});
    }
  }
  return specs;
}

/// --variant with the texts of --variant-file, each of which is a part that has the file's name.
Variant variant_of(const CompileOptions& options) {
  Variant variant(options.variant);
  for (const std::string& path : options.variant_files) {
    const Variant text = Variant::from_file(path);
    variant.sources.push_back(text.sources.front());
    variant.name += variant.name.empty() ? text.name : "";
  }
  return variant;
}

const char* name_of(CompiledKernel::Origin origin) {
  return origin == CompiledKernel::Origin::shipped ? "shipped" : origin == CompiledKernel::Origin::cached ? "cached" : "compiled";
}

Json json_of(const CompiledKernel& kernel, const std::string& spec, const std::string& architecture) {
  return {{"spec", spec},
          {"arch", architecture},
          {"kernel", kernel.label},
          {"origin", name_of(kernel.origin)},
          {"compiler", kernel.compiler},
          {"cpu_seconds", kernel.cpu_seconds},
          {"registers", kernel.registers},
          {"spills", kernel.spilled_bytes},
          {"bytes", kernel.bytes},
          {"path", kernel.path}};
}

int run_compile(const CompileOptions& options) {
  Results results("compile", options.json);
  std::vector<NamedSpec> specs = specs_of(options);
  if (!options.variant.empty() || !options.variant_files.empty()) {
    for (NamedSpec& named : specs) {
      named.spec.variant = variant_of(options);
    }
  }
  if (cache_folder().empty()) {
    throw InvalidArgument("fovea compile: there is no cache to fill; FOVEA_CACHE_DIR is empty, or there is no home folder");
  }
  Json kernels = Json::array();
  int compiled = 0;
  double cpu_seconds = 0;
  std::int64_t bytes = 0;
  Progress progress("specs", static_cast<std::int64_t>(specs.size() * options.architectures.size()));
  std::int64_t done = 0;
  for (const std::string& architecture : options.architectures) {
    for (const NamedSpec& named : specs) {
      for (const CompiledKernel& kernel : compile_ahead(architecture, named.spec)) {
        compiled += kernel.origin == CompiledKernel::Origin::compiled ? 1 : 0;
        cpu_seconds += kernel.cpu_seconds;
        bytes += kernel.bytes;
        kernels.push_back(json_of(kernel, named.name, architecture));
        results.print("{:<18} {:<7} {:<52} {:>9} {:>5.1f} s {:>4} registers {:>8}{}\n", named.name, architecture, kernel.label,
                      name_of(kernel.origin), kernel.cpu_seconds, kernel.registers, bytes_text(kernel.bytes),
                      kernel.spilled_bytes > 0 ? fmt::format(", spills {} bytes", kernel.spilled_bytes) : "");
      }
      progress.update(++done, "");
    }
  }
  results.print("{} kernels, {}, {} compiled now in {:.1f} CPU s; the cache is {}\n", kernels.size(), bytes_text(bytes), compiled,
                cpu_seconds, cache_folder());
  results.write({{"cache", cache_folder()}, {"kernels", kernels}});
  return 0;
}

}  // namespace

void add_compile(CLI::App& app, Action& action) {
  auto options = std::make_shared<CompileOptions>();
  CLI::App* command =
      app.add_subcommand("compile", "Compile ahead what a model needs on GPUs, for machines without a compiler; needs no GPU");
  command->add_option("--arch", options->architectures, "GPU architectures, as sm_80,sm_90a")->delimiter(',')->type_name("ARCH,...");
  command->add_option("--spec", options->specs, "A model of replay, models (all of them), or a workload")->required()->type_name("NAME");
  command->add_option("--variant", options->variant, "The variant, instead of the model's or workload's")->type_name("V");
  command->add_option("--variant-file", options->variant_files, "A variant's text: my_cap.h is the part my_cap of --variant")
      ->type_name("FILE");
  command->add_option("--kv-dtype", options->kv_dtype, "Type of a model's KV cache: bf16, e4m3, ...")
      ->type_name("T")
      ->capture_default_str();
  add_json_option(*command, options->json);
  command->footer(
      "The cache is FOVEA_CACHE_DIR, else ~/.cache/fovea; copy it to a machine with a GPU, which then compiles nothing "
      "(docs/compiling.md).\n"
      "Examples:\n"
      "  FOVEA_CACHE_DIR=out fovea compile --arch sm_90a --spec llama-3.1-8b --kv-dtype e5m2\n"
      "  fovea compile --spec qwen3-8b --variant causal+my_cap --variant-file my_cap.h");
  command->callback([options, &action] { action = [options] { return run_compile(*options); }; });
}

}  // namespace fovea::cli
