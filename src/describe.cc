// One line of text for everything a problem is made of.
#include "src/describe.h"

#include <fmt/format.h>

#include <iterator>

#include "fovea/limits.h"

namespace fovea {

const char* name_of(KvQuant quant) {
  switch (quant) {
    case KvQuant::none:
      return "none";
    case KvQuant::tensor:
      return "tensor";
    case KvQuant::head:
      return "head";
    case KvQuant::token:
      return "token";
  }
  return "?";
}

const char* name_of(Policy policy) {
  switch (policy) {
    case Policy::throughput:
      return "throughput";
    case Policy::batch_invariant:
      return "batch_invariant";
    case Policy::fixed_split:
      return "fixed_split";
  }
  return "?";
}

std::string to_string(const KvFormat& format) {
  const bool sparse = format.has_table && format.by_index && format.block_rows > 0;
  std::string text = !format.has_table ? "ragged"
                     : sparse          ? fmt::format("block_sparse({}, {})", format.block_rows, format.page_size)
                                       : fmt::format("paged({})", format.page_size);
  if (format.by_index && !sparse) {
    text += " by_index";
  }
  if (format.block_rows > 0 && !sparse) {
    text += fmt::format(" block_rows={}", format.block_rows);
  }
  if (format.per_kv_head) {
    text += " per_kv_head";
  }
  return text;
}

std::string describe(const CompileRecord& record) {
  const std::string kept = record.path.empty() ? "not kept" : record.path;
  return record.cached ? fmt::format("for {}: found compiled by {} in {:.4f} s: {}", record.target, record.compiler, record.seconds, kept)
                       : fmt::format("for {}: compiled by {} in {:.2f} s ({:.2f} CPU s): {}", record.target, record.compiler,
                                     record.seconds, record.cpu_seconds, kept);
}

std::string AttentionSpec::to_string() const {
  std::string text = fmt::format("{} qo heads, {} kv heads, head_dim {}", num_qo_heads, num_kv_heads, head_dim_qk);
  if (head_dim_vo != 0 && head_dim_vo != head_dim_qk) {
    text += fmt::format("/{}", head_dim_vo);
  }
  text += fmt::format(", q {} k {} v {} o {}", fovea::name_of(q_dtype), fovea::name_of(k_dtype), fovea::name_of(v_dtype),
                      fovea::name_of(o_dtype));
  if (kv_quant != KvQuant::none) {
    text += fmt::format(", kv_quant {}", fovea::name_of(kv_quant));
  }
  text += fmt::format(", variant {}, formats [", variant.name);
  for (std::size_t i = 0; i < formats.size(); ++i) {
    text += (i > 0 ? ", " : "") + fovea::to_string(formats[i]);
  }
  return text + "]";
}

std::string Limits::to_string() const {
  return fmt::format("requests {}, query tokens {} ({} a request), kv tokens {} ({} a request), row groups {}, mask groups {}",
                     max_requests, max_query_tokens, max_query_tokens_per_request, max_kv_tokens, max_kv_tokens_per_request, max_row_groups,
                     max_mask_groups);
}

}  // namespace fovea
