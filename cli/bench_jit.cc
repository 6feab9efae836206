// fovea bench jit: what compiling a kernel costs, kernel by kernel, each anew on one core. Needs NVRTC, no GPU.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "bench/machine.h"
#include "cli/bench_points.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "fovea/compile.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

struct JitOptions {
  std::string architecture = "sm_90a", json;
  std::vector<std::string> variants;
  std::vector<std::int32_t> head_dims = {64, 128, 256};
};

/// Texts as users write them: a small one, one with a mask of its own and a logarithm, one whose hooks keep many values at once.
const Variant kUserVariants[] = {
    "causal" + Variant::from_source("my_cap", R"(
struct MyCap : VariantBase {
  struct Params { float cap; FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap)) };
  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return T(p.cap) * math::tanh(logit / T(p.cap)); }
  Params p;
};)"),
    Variant::from_source("dilated", R"(
struct Dilated : VariantBase {
  struct Mask {
    int32_t local;
    int32_t stride = 4;
    template <class I> FOVEA_FN auto keep(const Position<I>& at) const {
      const auto distance = at.q_pos - at.kv_pos;
      return (distance < local) | (distance % stride == 0);
    }
    FOVEA_FN constexpr KvRange range() const { return {}; }
    FOVEA_FIELDS(Mask, FOVEA_REQUIRED_AT_LEAST(local, 1), FOVEA_OPTIONAL_AT_LEAST(stride, 1))
  };
  struct Params { float decay; FOVEA_FIELDS(Params, FOVEA_REQUIRED(decay)) };
  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>& at) const {
    return logit - T(p.decay) * math::log(T(1 + max_(at.q_pos - at.kv_pos, 0)));
  }
  Mask m;
  Params p;
};)"),
    "causal" + Variant::from_source("buckets", R"(
struct Buckets : VariantBase {
  struct Params {
    Table<float> bias;
    float scale;
    FOVEA_FIELDS(Params, FOVEA_REQUIRED_TABLE(bias, any), FOVEA_REQUIRED(scale))
  };
  template <class T> FOVEA_FN T transform_logit(T logit, const Position<>& at) const {
    const int32_t distance = max_(at.q_pos - at.kv_pos, 0);
    const int32_t bucket = distance < 16 ? distance : 16 + static_cast<int32_t>(math::log2(static_cast<float>(distance)));
    return logit * T(p.scale) + T(p.bias[bucket * 64 + at.qo_head]);
  }
  template <class T> FOVEA_FN T transform_output(T o, const Position<>&) const { return o / (T(1) + math::exp(-o)); }
  Params p;
};)"),
};

struct JitPoint {
  std::string workload;
  CompiledKernel kernel;
  bool users;
};

Json json_of(const JitPoint& point) {
  return {{"workload", point.workload},
          {"users", point.users},
          {"cpu_seconds", point.kernel.cpu_seconds},
          {"registers", point.kernel.registers},
          {"spills", point.kernel.spilled_bytes},
          {"bytes", point.kernel.bytes}};
}

Json summary_of(const std::vector<JitPoint>& points, bool users) {
  std::vector<double> seconds;
  for (const JitPoint& point : points) {
    if (point.users == users) {
      seconds.push_back(point.kernel.cpu_seconds);
    }
  }
  if (seconds.empty()) {
    return nullptr;
  }
  std::sort(seconds.begin(), seconds.end());
  return {{"kernels", seconds.size()}, {"median_cpu_seconds", seconds[seconds.size() / 2]}, {"worst_cpu_seconds", seconds.back()}};
}

int run_jit(const JitOptions& options) {
  Results results("bench jit", options.json);
  std::vector<std::pair<Variant, bool>> variants;
  for (const VariantDescription& variant : Engine({.backend = "reference"}).variants()) {
    if (options.variants.empty() || std::find(options.variants.begin(), options.variants.end(), variant.name) != options.variants.end()) {
      variants.emplace_back(variant.name, false);
    }
  }
  for (const Variant& variant : kUserVariants) {
    if (options.variants.empty() || std::find(options.variants.begin(), options.variants.end(), variant.name) != options.variants.end()) {
      variants.emplace_back(variant, true);
    }
  }
  results.print("{:<72}{:>8}{:>11}{:>8}{:>10}\n", "kernel", "CPU s", "registers", "spills", "bytes");
  std::vector<JitPoint> points;
  Progress progress("compiling", static_cast<std::int64_t>(variants.size() * options.head_dims.size()));
  std::int64_t done = 0;
  std::string compiler;
  for (const auto& [variant, users] : variants) {
    for (const std::int32_t head_dim : options.head_dims) {
      const AttentionSpec spec{.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = head_dim, .variant = variant};
      for (const CompiledKernel& kernel : compile_anew(options.architecture, spec)) {
        points.push_back({fmt::format("{}-d{}", kernel.label, head_dim), kernel, users});
        compiler = kernel.compiler;
        results.print("{:<72}{:>8.2f}{:>11}{:>8}{:>10}\n", points.back().workload, kernel.cpu_seconds, kernel.registers,
                      kernel.spilled_bytes, kernel.bytes);
      }
      progress.update(++done);
    }
  }
  Json list = Json::array();
  for (const JitPoint& point : points) {
    list.push_back(json_of(point));
  }
  const Json built_in = summary_of(points, false), users = summary_of(points, true);
  for (const auto& [name, summary] : {std::pair{"built in", built_in}, std::pair{"users'", users}}) {
    if (!summary.is_null()) {
      results.print("{:<10}{} kernels, median {:.2f}, worst {:.2f} CPU s\n", name, summary["kernels"].get<int>(),
                    summary["median_cpu_seconds"].get<double>(), summary["worst_cpu_seconds"].get<double>());
    }
  }
  const bench::Machine machine = bench::this_machine();
  results.write({{"cpu", machine.cpu},
                 {"arch", options.architecture},
                 {"compiler", compiler},
                 {"built_in", built_in},
                 {"users", users},
                 {"points", list}});
  return 0;
}

}  // namespace

void add_bench_jit(CLI::App& bench, Action& action) {
  auto options = std::make_shared<JitOptions>();
  CLI::App* command = bench.add_subcommand("jit", "What compiling a GPU kernel takes, kernel by kernel; needs no GPU");
  command->add_option("--arch", options->architecture, "Architecture compiled for")->type_name("ARCH")->capture_default_str();
  command->add_option("--variant", options->variants, "Variants instead of all built-in ones and three texts")->type_name("V");
  command->add_option("--head-dim", options->head_dims, "Head dimensions")->type_name("N");
  add_json_option(*command, options->json);
  command->footer(
      "Every kernel that a layer of 32/8 heads in bf16 may want, compiled anew on one thread: caches are neither read nor filled.\n"
      "CPU seconds mean little on a machine that does something else.");
  command->callback([options, &action] { action = [options] { return run_jit(*options); }; });
}

}  // namespace fovea::cli
