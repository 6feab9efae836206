#include "bench/batch_arrays.h"

#include <fmt/format.h>

#include <limits>
#include <numeric>

#include "bench/random.h"
#include "fovea/error.h"

namespace fovea::bench {

void BatchArrays::add_group(Table& table, const KvFormat& format, std::int32_t num_tokens) {
  const std::int64_t pages = (std::int64_t{num_tokens} + format.page_size - 1) / format.page_size;
  num_pages_ += pages;
  if (table.page_indptr.back() + pages > std::numeric_limits<std::int32_t>::max()) {
    throw InvalidArgument(
        fmt::format("workload: more than 2^31 pages ({} tokens in pages of {}); page numbers are 32-bit", num_tokens, format.page_size));
  }
  table.page_indptr.push_back(static_cast<std::int32_t>(table.page_indptr.back() + pages));
  if (format.has_table) {
    table.last_page_len.push_back(pages == 0 ? 1 : static_cast<std::int32_t>(num_tokens - (pages - 1) * format.page_size));
  }
}

BatchArrays::BatchArrays(const Workload& workload, bool shuffle_pages) {
  const std::vector<KvFormat>& formats = workload.spec.formats;
  tables_.resize(formats.size());
  for (const RequestLengths& request : workload.requests) {
    qo_indptr_.push_back(qo_indptr_.back() + request.qo_len);
  }
  std::vector<std::int32_t> prefix_tokens(workload.requests.size(), 0);
  if (!workload.prefixes.empty()) {
    std::size_t first = 0;
    tables_[0].row_indptr = {0};
    for (const SharedPrefix& prefix : workload.prefixes) {
      add_group(tables_[0], formats[0], prefix.tokens);
      const std::size_t last = first + static_cast<std::size_t>(prefix.num_requests);
      tables_[0].row_indptr.push_back(qo_indptr_[last]);
      std::fill(prefix_tokens.begin() + static_cast<std::ptrdiff_t>(first), prefix_tokens.begin() + static_cast<std::ptrdiff_t>(last),
                prefix.tokens);
      first = last;
    }
  }
  for (std::size_t i = 0; i < workload.requests.size(); ++i) {
    add_group(tables_.back(), formats.back(), workload.requests[i].kv_len - prefix_tokens[i]);
  }

  std::vector<std::int32_t> pages(static_cast<std::size_t>(formats[0].has_table ? num_pages_ : 0));
  std::iota(pages.begin(), pages.end(), 0);
  if (shuffle_pages) {
    Random(7).shuffle(std::span(pages));
  }
  auto next = pages.begin();
  for (std::size_t f = 0; f < formats.size(); ++f) {
    Table& table = tables_[f];
    if (!formats[f].has_table) {
      views_.push_back(KvTables::ragged(TensorView::of(table.page_indptr)));
      continue;
    }
    table.page_indices.assign(next, next + table.page_indptr.back());
    next += table.page_indptr.back();
    KvTables view =
        KvTables::csr(TensorView::of(table.page_indptr), TensorView::of(table.page_indices), TensorView::of(table.last_page_len));
    if (!table.row_indptr.empty()) {
      view.row_indptr = TensorView::of(table.row_indptr);
    }
    views_.push_back(view);
  }
  batch_ = {.qo_indptr = TensorView::of(qo_indptr_), .kv = views_};
}

namespace {

void append_values(const std::vector<NamedNumber>& numbers, std::vector<Value>& values) {
  for (const NamedNumber& number : numbers) {
    if (const auto* integer = std::get_if<std::int64_t>(&number.value)) {
      values.emplace_back(number.name, *integer);
    } else if (const auto* real = std::get_if<double>(&number.value)) {
      values.emplace_back(number.name, *real);
    } else {
      const auto& heads = std::get<std::vector<float>>(number.value);
      values.emplace_back(number.name,
                          TensorView::contiguous(const_cast<float*>(heads.data()), DType::f32, {static_cast<std::int64_t>(heads.size())}));
    }
  }
}

}  // namespace

WorkloadValues::WorkloadValues(const Workload& workload) {
  append_values(workload.mask, mask_values_);
  append_values(workload.params, params_);
  mask_ = {.values = mask_values_, .any = workload.any_mask};
}

}  // namespace fovea::bench
