// Options that commands share, with messages in the house style: where: what is wrong (values); rule; hint.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bench/workload.h"
#include "cli/variant_choice.h"
#include "fovea/engine.h"

namespace fovea::cli {

/// What main() runs once the whole command line is read; returns the exit code.
using Action = std::function<int()>;

/// A number in [low, high]. `into` keeps its value when the option is not given.
CLI::Option* add_integer(CLI::App& app, const std::string& name, std::int64_t& into, std::int64_t low, std::int64_t high,
                         const std::string& help);

CLI::Option* add_json_option(CLI::App& app, std::string& path);

/// --backend, --threads and --isa.
struct EngineChoice {
  std::string backend = "cpu";  // or "cuda:1": the second GPU
  std::int64_t num_threads = 0;
  std::string isa;

  void add_to(CLI::App& app);
  EngineOptions options(const char* option = "--backend") const;  // throws InvalidArgument that names the option
};

/// --workers, --policy and --split.
struct PolicyChoice {
  std::string policy = "throughput";
  std::int64_t num_workers = 0, fixed_split = 0;

  void add_to(CLI::App& app);
  PrepareOptions options() const;  // throws InvalidArgument
};

/// A batch: a named workload, or one made of options, or a named one changed by them.
struct WorkloadChoice {
  std::string default_name = "decode_b64_kv4k";
  std::string name;
  std::optional<std::int64_t> requests, qo_heads, kv_heads, head_dim, page_size, prefix_tokens, prefix_requests;
  std::string qo_len, kv_len, dtype, kv_dtype;
  VariantChoice rule;

  void add_to(CLI::App& app);
  bench::Workload make() const;  // throws InvalidArgument
};

/// "4096", "100,200,300", "100..2000" (uniform) or "zipf:64..65536" as `count` lengths; 0: as many as the text lists.
std::vector<std::int32_t> parse_lengths(const std::string& option, const std::string& text, std::int64_t count);

}  // namespace fovea::cli
