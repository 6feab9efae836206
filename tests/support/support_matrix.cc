// The support matrix of docs/support.md: every kernel of every backend is asked about one layer a row, as prepare() asks them, for GPUs by
// their architecture without one being there.
//
//   support_matrix --update docs/support.md     writes the tables between the page's markers
//   support_matrix --check docs/support.md      exit code 1 where they differ
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "backends/builtin_variants.h"
#include "backends/cuda/ahead.h"
#include "src/backend.h"
#include "src/problem/problem.h"

namespace fovea {
namespace {

const std::vector<std::string> kArchitectures = {"sm_80", "sm_90a"};

AttentionSpec usual() {
  return {.num_qo_heads = 32, .num_kv_heads = 8, .head_dim_qk = 128, .variant = "causal", .formats = {KvFormat::paged(16)}};
}

struct Row {
  std::string name;
  AttentionSpec spec;
  PrepareOptions options = {};
};

/// What serves a row on one device: the kernel for decoding, and the one for prefill where it is another; or the refusals.
struct Answer {
  std::string kernels;
  std::vector<std::string> refusals;
};

using Ask = std::function<std::vector<Candidate>(const Problem&)>;

Answer answer_of(const Row& row, const Ask& ask) {
  Answer answer;
  std::vector<std::string> kernels;
  for (const std::int32_t tokens : {1, 4096}) {
    const Problem problem = check_problem(
        row.spec, {.max_requests = 64, .max_query_tokens = std::max(64, tokens), .max_query_tokens_per_request = tokens}, row.options);
    const Candidate* best = nullptr;
    const std::vector<Candidate> candidates = ask(problem);
    for (const Candidate& candidate : candidates) {
      if (candidate.refusal.empty() && (best == nullptr || candidate.cost < best->cost)) {
        best = &candidate;
      }
    }
    if (best == nullptr) {
      for (const Candidate& candidate : candidates) {
        answer.refusals.push_back(fmt::format("{}: {}", candidate.kernel, candidate.refusal));
      }
      return answer;
    }
    if (kernels.empty() || kernels.back() != best->kernel) {
      kernels.push_back(best->kernel);
    }
  }
  answer.kernels = fmt::format("{}", fmt::join(kernels, ", "));
  return answer;
}

std::vector<Row> rows_of_dtypes() {
  std::vector<Row> rows;
  const auto add = [&](DType q, DType kv, DType o, KvQuant quant) {
    Row row{fmt::format("q {}, K and V {}, o {}", name_of(q), name_of(kv), name_of(o)), usual()};
    row.spec.q_dtype = q;
    row.spec.k_dtype = row.spec.v_dtype = kv;
    row.spec.o_dtype = o;
    row.spec.kv_quant = quant;
    if (quant != KvQuant::none) {
      row.name += fmt::format(", a scale per {}", quant == KvQuant::tensor ? "tensor" : quant == KvQuant::head ? "head" : "token and head");
    }
    rows.push_back(row);
  };
  add(DType::bf16, DType::bf16, DType::bf16, KvQuant::none);
  add(DType::f16, DType::f16, DType::f16, KvQuant::none);
  add(DType::f32, DType::f32, DType::f32, KvQuant::none);
  add(DType::f32, DType::bf16, DType::f32, KvQuant::none);
  for (const KvQuant quant : {KvQuant::tensor, KvQuant::head, KvQuant::token}) {
    add(DType::bf16, DType::e4m3, DType::bf16, quant);
  }
  add(DType::bf16, DType::e5m2, DType::bf16, KvQuant::tensor);
  add(DType::e4m3, DType::e4m3, DType::bf16, KvQuant::tensor);
  return rows;
}

std::vector<Row> rows_of_shapes() {
  std::vector<Row> rows;
  for (const auto& [qk, vo] : {std::pair{64, 64}, {80, 80}, {96, 96}, {128, 128}, {192, 128}, {256, 256}, {512, 512}}) {
    Row row{qk == vo ? fmt::format("head dim {}", qk) : fmt::format("head dims {} and {}", qk, vo), usual()};
    row.spec.head_dim_qk = qk;
    row.spec.head_dim_vo = vo;
    rows.push_back(row);
  }
  Row latent{"latent attention: 128 heads, 1 kv head, head dims 576 and 512", usual()};
  latent.spec.num_qo_heads = 128;
  latent.spec.num_kv_heads = 1;
  latent.spec.head_dim_qk = 576;
  latent.spec.head_dim_vo = 512;
  rows.push_back(latent);
  for (const auto& [qo, kv] : {std::pair{32, 32}, {32, 4}, {64, 8}, {40, 8}, {71, 1}}) {
    Row row{fmt::format("{} query heads, {} kv heads", qo, kv), usual()};
    row.spec.num_qo_heads = qo;
    row.spec.num_kv_heads = kv;
    rows.push_back(row);
  }
  return rows;
}

std::vector<Row> rows_of_layouts() {
  std::vector<Row> rows;
  const auto add = [&](const std::string& name, std::vector<KvFormat> formats) {
    Row row{name, usual()};
    row.spec.formats = std::move(formats);
    rows.push_back(row);
  };
  for (const int page_size : {1, 5, 16, 64, 256}) {
    add(fmt::format("pages of {}", page_size), {KvFormat::paged(page_size)});
  }
  add("ragged", {KvFormat::ragged()});
  add("block-sparse, blocks of 64 x 64", {KvFormat::block_sparse(64, 64)});
  add("tables per kv head", {{.page_size = 16, .per_kv_head = true}});
  add("shared prefix and suffix (two formats)", {KvFormat::paged(16), KvFormat::paged(16)});
  for (const auto& [name, policy] :
       {std::pair{"policy batch_invariant", Policy::batch_invariant}, {"policy fixed_split of 1024", Policy::fixed_split}}) {
    Row row{name, usual(), {.policy = policy}};
    row.options.fixed_split = policy == Policy::fixed_split ? 1024 : 0;
    rows.push_back(row);
  }
  return rows;
}

std::vector<Row> rows_of_variants() {
  std::vector<Row> rows;
  for (const VariantInfo& variant : builtin_variants()) {
    rows.push_back({fmt::format("`{}`", variant.name), usual()});
    rows.back().spec.variant = Variant(variant.name);
  }
  return rows;
}

std::string table_of(const std::string& title, const std::vector<Row>& rows, const std::vector<std::pair<std::string, Ask>>& devices,
                     std::vector<std::string>& notes) {
  std::string text = fmt::format("### {}\n\n| |", title);
  for (const auto& [name, ask] : devices) {
    text += fmt::format(" {} |", name);
  }
  text += "\n|---|" + std::string();
  for (std::size_t i = 0; i < devices.size(); ++i) {
    text += "---|";
  }
  for (const Row& row : rows) {
    text += fmt::format("\n| {} |", row.name);
    for (const auto& [name, ask] : devices) {
      const Answer answer = answer_of(row, ask);
      if (answer.kernels.empty()) {
        const std::string note = fmt::format("{}", fmt::join(answer.refusals, "; "));
        const auto known = std::find(notes.begin(), notes.end(), note);
        text += fmt::format(" no ({}) |", known - notes.begin() + 1);
        if (known == notes.end()) {
          notes.push_back(note);
        }
      } else {
        text += fmt::format(" {} |", answer.kernels);
      }
    }
  }
  return text + "\n\n";
}

std::string tables() {
  const std::unique_ptr<Backend> cpu = make_backend({.backend = "cpu", .num_threads = 1, .isa = "avx2"});
  std::vector<std::pair<std::string, Ask>> devices{{"CPU", [&](const Problem& problem) {
                                                      cpu->variant(problem.spec.variant);
                                                      return cpu->candidates(problem);
                                                    }}};
  for (const std::string& architecture : kArchitectures) {
    devices.emplace_back(architecture, [gpu = cuda::limits_of_architecture(architecture)](const Problem& problem) {
      std::vector<Candidate> candidates;
      for (const cuda::AttentionKernel& kernel : cuda::attention_kernels()) {
        candidates.push_back(kernel.candidate(problem, builtin_variant(problem.spec.variant.name), gpu));
      }
      return candidates;
    });
  }
  std::vector<std::string> notes;
  std::string text = table_of("Dtypes", rows_of_dtypes(), devices, notes) + table_of("Heads", rows_of_shapes(), devices, notes) +
                     table_of("KV layouts and policies", rows_of_layouts(), devices, notes) +
                     table_of("Built-in variants", rows_of_variants(), devices, notes);
  if (!notes.empty()) {
    text += "### Refusals\n\n";
    for (std::size_t i = 0; i < notes.size(); ++i) {
      text += fmt::format("{}. {}\n", i + 1, notes[i]);
    }
  }
  return text;
}

constexpr std::string_view kBegin = "<!-- support_matrix begins -->\n", kEnd = "<!-- support_matrix ends -->";

int run(const std::string& mode, const std::string& path) {
  std::ifstream in(path);
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  const std::size_t begin = page.find(kBegin), end = page.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos) {
    fmt::print(stderr, "support_matrix: {} has no lines '{}' and '{}'\n", path, kBegin.substr(0, kBegin.size() - 1), kEnd);
    return 2;
  }
  const std::string wanted = page.substr(0, begin + kBegin.size()) + "\n" + tables() + "\n" + page.substr(end);
  if (mode == "--update") {
    std::ofstream(path) << wanted;
    return 0;
  }
  if (page != wanted) {
    fmt::print(stderr, "support_matrix: {} differs from what the kernels say; run support_matrix --update {}\n", path, path);
  }
  return page == wanted ? 0 : 1;
}

}  // namespace
}  // namespace fovea

int main(int argc, char** argv) {
  if (argc != 3 || (std::string(argv[1]) != "--update" && std::string(argv[1]) != "--check")) {
    fmt::print(stderr, "usage: support_matrix --update|--check docs/support.md\n");
    return 2;
  }
  return fovea::run(argv[1], argv[2]);
}
