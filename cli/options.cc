#include "cli/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "bench/random.h"
#include "fovea/error.h"

namespace fovea::cli {
namespace {

constexpr std::int64_t kMaxLength = 1 << 29;
constexpr std::int64_t kMaxRequests = 1 << 20;

std::int64_t parse_integer(const std::string& option, std::string_view text, std::int64_t low, std::int64_t high) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::invalid_argument || end != text.data() + text.size()) {
    throw InvalidArgument(fmt::format("{}: '{}' is not an integer; give {}..{}", option, text, low, high));
  }
  if (error == std::errc::result_out_of_range || number < low || number > high) {
    throw InvalidArgument(fmt::format("{}: {} is outside {}..{}", option, text, low, high));
  }
  return number;
}

CLI::Option* add_optional_integer(CLI::App& app, const std::string& name, std::optional<std::int64_t>& into, std::int64_t low,
                                  std::int64_t high, const std::string& help) {
  return app
      .add_option_function<std::string>(
          name, [&into, name, low, high](const std::string& text) { into = parse_integer(name, text, low, high); }, help)
      ->type_name("N");
}

/// "low..high" with 0 <= low <= high.
std::pair<std::int64_t, std::int64_t> parse_range(const std::string& option, std::string_view text) {
  const std::size_t dots = text.find("..");
  if (dots == std::string_view::npos) {
    throw InvalidArgument(fmt::format("{}: '{}' is not a range; write low..high", option, text));
  }
  const std::int64_t low = parse_integer(option, text.substr(0, dots), 0, kMaxLength);
  return {low, parse_integer(option, text.substr(dots + 2), low, kMaxLength)};
}

std::vector<bench::RequestLengths> requests_of(const WorkloadChoice& choice, const bench::Workload& base) {
  const std::int64_t asked = choice.requests.value_or(0);
  const std::vector<std::int32_t> qo =
      choice.qo_len.empty() ? std::vector<std::int32_t>{} : parse_lengths("--qo-len", choice.qo_len, asked);
  const std::vector<std::int32_t> kv =
      choice.kv_len.empty() ? std::vector<std::int32_t>{} : parse_lengths("--kv-len", choice.kv_len, asked);
  if (qo.size() > 1 && kv.size() > 1 && qo.size() != kv.size()) {
    throw InvalidArgument(
        fmt::format("--qo-len: {} lengths, but --kv-len has {}; give as many of both, or one for all requests", qo.size(), kv.size()));
  }
  std::size_t count = std::max({qo.size(), kv.size(), static_cast<std::size_t>(asked)});
  if (asked == 0 && count <= 1) {
    count = base.requests.size();
  }
  std::vector<bench::RequestLengths> requests(count);
  for (std::size_t i = 0; i < count; ++i) {
    const bench::RequestLengths& old = base.requests[i % base.requests.size()];
    requests[i] = {.qo_len = qo.empty() ? old.qo_len : qo[i % qo.size()], .kv_len = kv.empty() ? old.kv_len : kv[i % kv.size()]};
  }
  return requests;
}

}  // namespace

CLI::Option* add_integer(CLI::App& app, const std::string& name, std::int64_t& into, std::int64_t low, std::int64_t high,
                         const std::string& help) {
  return app
      .add_option_function<std::string>(
          name, [&into, name, low, high](const std::string& text) { into = parse_integer(name, text, low, high); }, help)
      ->type_name("N")
      ->default_str(fmt::format("{}", into));
}

CLI::Option* add_json_option(CLI::App& app, std::string& path) {
  return app.add_option("--json", path, "Write results as JSON; - is standard output, and then nothing else goes there")
      ->type_name("FILE")
      ->check(
          [](const std::string& text) { return std::string(text.empty() ? "no name given; give a file, or - for standard output" : ""); });
}

void EngineChoice::add_to(CLI::App& app) {
  app.add_option("--backend", backend, "cpu, cuda, cuda:N or reference")->type_name("B")->default_str("cpu");
  add_integer(app, "--threads", num_threads, 0, 4096, "Threads at most; 0: all this process may use. Never changes a result");
  app.add_option("--isa", isa, "avx2, avx512 or avx512_bf16; default: the fastest this machine runs")->type_name("ISA");
}

EngineOptions EngineChoice::options(const char* option) const {
  EngineOptions options{.backend = backend, .num_threads = static_cast<std::int32_t>(num_threads), .isa = isa};
  if (const std::size_t colon = backend.find(':'); colon != std::string::npos) {
    options.backend = backend.substr(0, colon);
    const std::string id = backend.substr(colon + 1);
    if (options.backend != "cuda" || id.empty() || id.size() > 4 || id.find_first_not_of("0123456789") != std::string::npos) {
      throw InvalidArgument(fmt::format("{}: '{}' is no device; give cpu, reference, cuda or cuda:N", option, backend));
    }
    options.device_id = std::stoi(id);
  }
  return options;
}

void PolicyChoice::add_to(CLI::App& app) {
  add_integer(app, "--workers", num_workers, 0, 65536, "Workers to plan for; 0: the backend's default");
  app.add_option("--policy", policy, "throughput, batch_invariant or fixed_split")->type_name("P")->default_str("throughput");
  add_integer(app, "--split", fixed_split, 0, 1 << 29, "Tokens per piece, with --policy fixed_split");
}

PrepareOptions PolicyChoice::options() const {
  const std::vector<std::string> policies = {"throughput", "batch_invariant", "fixed_split"};
  const auto found = std::find(policies.begin(), policies.end(), policy);
  if (found == policies.end()) {
    throw InvalidArgument(fmt::format("--policy: '{}' is not known; known: {}", policy, bench::choices(policy, policies)));
  }
  return {.policy = static_cast<Policy>(found - policies.begin()),
          .fixed_split = static_cast<std::int32_t>(fixed_split),
          .num_workers = static_cast<std::int32_t>(num_workers)};
}

void WorkloadChoice::add_to(CLI::App& app) {
  const std::string group = "Batch";
  app.add_option("workload,--workload", name, "A named workload (fovea plan --list) or a JSON file")->type_name("NAME")->group(group);
  add_optional_integer(app, "--requests", requests, 1, kMaxRequests, "Number of requests")->group(group);
  app.add_option("--qo-len", qo_len, "Query tokens per request: 1, or 1,1,512, or 1..8")->type_name("LENGTHS")->group(group);
  app.add_option("--kv-len", kv_len, "KV tokens per request: 4096, or 100,200, or 100..9000 (random), or zipf:64..65536")
      ->type_name("LENGTHS")
      ->group(group);
  add_optional_integer(app, "--prefix", prefix_tokens, 1, kMaxLength, "Tokens that requests share at their start")->group(group);
  add_optional_integer(app, "--prefix-requests", prefix_requests, 1, kMaxRequests, "How many adjacent requests share a prefix; default all")
      ->group(group);
  const std::string shape = "Layer";
  add_optional_integer(app, "--qo-heads", qo_heads, 1, 1 << 15, "Query heads")->group(shape);
  add_optional_integer(app, "--kv-heads", kv_heads, 1, 1 << 15, "KV heads; divides the query heads")->group(shape);
  add_optional_integer(app, "--head-dim", head_dim, 1, 1024, "Head dimension of Q, K and V")->group(shape);
  add_optional_integer(app, "--page-size", page_size, 1, 1 << 20, "Tokens per page")->group(shape);
  app.add_option("--dtype", dtype, "Of Q, K, V and O: f32, f16, bf16")->type_name("T")->group(shape);
  app.add_option("--kv-dtype", kv_dtype, "Of K and V alone: f32, f16, bf16, e4m3, e5m2")->type_name("T")->group(shape);
  rule.add_to(app, shape);
}

bench::Workload WorkloadChoice::make() const {
  bench::Workload workload = bench::load_workload(name.empty() ? default_name : name);
  if (requests || !qo_len.empty() || !kv_len.empty()) {
    workload.requests = requests_of(*this, workload);
    workload.name = name.empty() ? "custom" : workload.name + " (changed)";
    workload.about.clear();
    if (!workload.prefixes.empty()) {
      throw InvalidArgument(
          fmt::format("--requests: workload '{}' has shared prefixes, which options can't change; use --prefix on another "
                      "workload, or a JSON file",
                      name));
    }
  }
  AttentionSpec& spec = workload.spec;
  spec.num_qo_heads = static_cast<std::int32_t>(qo_heads.value_or(spec.num_qo_heads));
  spec.num_kv_heads = static_cast<std::int32_t>(kv_heads.value_or(spec.num_kv_heads));
  if (head_dim) {
    spec.head_dim_qk = spec.head_dim_vo = static_cast<std::int32_t>(*head_dim);
  }
  if (page_size) {
    std::fill(spec.formats.begin(), spec.formats.end(), KvFormat::paged(static_cast<std::int32_t>(*page_size)));
  }
  if (!dtype.empty()) {
    spec.q_dtype = spec.k_dtype = spec.v_dtype = spec.o_dtype = bench::parse_dtype("--dtype", dtype);
  }
  if (!kv_dtype.empty()) {
    spec.k_dtype = spec.v_dtype = bench::parse_dtype("--kv-dtype", kv_dtype);
  }
  rule.apply(workload);
  if (prefix_tokens) {
    const auto sharers = prefix_requests.value_or(static_cast<std::int64_t>(workload.requests.size()));
    bench::share_prefix(workload, "--prefix", static_cast<std::int32_t>(*prefix_tokens), static_cast<std::int32_t>(sharers));
  } else if (prefix_requests) {
    throw InvalidArgument(fmt::format("--prefix-requests: {} without --prefix; say how many tokens are shared", *prefix_requests));
  }
  return workload;
}

std::vector<std::int32_t> parse_lengths(const std::string& option, const std::string& text, std::int64_t count) {
  std::vector<std::int32_t> lengths;
  const bool zipf = text.starts_with("zipf:");
  if (zipf || text.find("..") != std::string::npos) {
    const auto [low, high] = parse_range(option, std::string_view(text).substr(zipf ? 5 : 0));
    bench::Random random(1);
    for (std::int64_t i = 0; i < std::max<std::int64_t>(count, 1); ++i) {
      lengths.push_back(static_cast<std::int32_t>(zipf ? std::max(low, high / (i + 1)) : random.between(low, high)));
    }
    random.shuffle(std::span(lengths));
    return lengths;
  }
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    lengths.push_back(static_cast<std::int32_t>(parse_integer(option, std::string_view(text).substr(begin, comma - begin), 0, kMaxLength)));
    begin = comma + 1;
  }
  if (count > 0 && lengths.size() > 1 && static_cast<std::int64_t>(lengths.size()) != count) {
    throw InvalidArgument(fmt::format("{}: {} lengths for {} requests; give one for all, or one each", option, lengths.size(), count));
  }
  return lengths;
}

}  // namespace fovea::cli
