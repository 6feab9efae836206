#include "bench/batch_arrays.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
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
  table.num_tokens.push_back(num_tokens);
  if (format.has_table) {
    table.last_page_len.push_back(pages == 0 ? 1 : static_cast<std::int32_t>(num_tokens - (pages - 1) * format.page_size));
  }
}

KvTables BatchArrays::Table::as_2d() {
  const std::size_t rows = page_indptr.size() - 1;
  for (std::size_t row = 0; row < rows; ++row) {
    width = std::max(width, page_indptr[row + 1] - page_indptr[row]);
  }
  page_table.assign(rows * static_cast<std::size_t>(width), 0);
  for (std::size_t row = 0; row < rows; ++row) {
    std::copy(page_indices.begin() + page_indptr[row], page_indices.begin() + page_indptr[row + 1],
              page_table.begin() + static_cast<std::ptrdiff_t>(row * static_cast<std::size_t>(width)));
  }
  return KvTables::table_2d(TensorView::contiguous(page_table.data(), DType::i32, {static_cast<std::int64_t>(rows), width}),
                            TensorView::of(num_tokens));
}

BatchArrays::BatchArrays(const Workload& workload, bool shuffle_pages) {
  formats_ = workload.spec.formats;
  const std::vector<KvFormat>& formats = formats_;
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
    if (workload.tables_2d) {
      view = table.as_2d();
    }
    if (!table.row_indptr.empty()) {
      view.row_indptr = TensorView::of(table.row_indptr);
    }
    views_.push_back(view);
  }
  batch_ = {.qo_indptr = TensorView::of(qo_indptr_), .kv = views_};
}

void BatchArrays::put_pages_on(const Engine& engine) {
  if (engine.device().type == DeviceType::cpu) {
    return;
  }
  for (std::size_t f = 0; f < views_.size(); ++f) {
    const bool is_2d = views_[f].page_table.defined();
    const std::vector<std::int32_t>& pages = is_2d ? tables_[f].page_table : tables_[f].page_indices;
    if (formats_[f].has_table) {
      const std::size_t bytes = pages.size() * sizeof(std::int32_t);
      device_pages_.emplace_back(engine, bytes);
      device_pages_.back().write(pages.data(), bytes);
      TensorView& view = is_2d ? views_[f].page_table : views_[f].page_indices;
      view.data = device_pages_.back().data();
      view.device = engine.device();
    }
  }
}

std::vector<BatchArrays::Piece> BatchArrays::pieces(std::int32_t max_tokens, std::int64_t window) const {
  std::vector<Piece> pieces;
  const auto add = [&](std::int32_t slot, std::int32_t num_tokens) {
    for (std::int32_t at = 0; at < num_tokens; at += max_tokens) {
      pieces.push_back({.slot = slot + at, .num_tokens = std::min(max_tokens, num_tokens - at)});
    }
  };
  for (std::size_t f = 0; f < tables_.size(); ++f) {
    const Table& table = tables_[f];
    for (std::size_t group = 0; group + 1 < table.page_indptr.size(); ++group) {
      const std::int32_t begin = table.page_indptr[group], end = table.page_indptr[group + 1];
      const std::int64_t seen = window == 0 ? INT32_MAX : window + qo_indptr_[group + 1] - qo_indptr_[group] - 1;
      const auto last_tokens = static_cast<std::int32_t>(std::min<std::int64_t>(seen, INT32_MAX));
      if (!formats_[f].has_table) {
        const std::int32_t count = std::min(last_tokens, end - begin);
        add(end - count, count);
        continue;
      }
      const std::int32_t page_size = formats_[f].page_size;
      const std::int32_t num_tokens = begin == end ? 0 : (end - begin - 1) * page_size + table.last_page_len[group];
      const std::int32_t first = num_tokens - std::min(last_tokens, num_tokens);  // token
      for (std::int32_t entry = begin + first / page_size; entry < end; ++entry) {
        const std::int32_t of_page = entry + 1 == end ? table.last_page_len[group] : page_size;
        const std::int32_t skipped = std::max(0, first - (entry - begin) * page_size);
        add(table.page_indices[static_cast<std::size_t>(entry)] * page_size + skipped, of_page - skipped);
      }
    }
  }
  return pieces;
}

namespace {

/// The library never writes through it.
TensorView table_of(const NamedNumber& number) {
  const auto vector_of = [](const auto& list, DType dtype) {
    return TensorView::contiguous(const_cast<void*>(static_cast<const void*>(list.data())), dtype,
                                  {static_cast<std::int64_t>(list.size())});
  };
  if (const auto* heads = std::get_if<std::vector<float>>(&number.value)) {
    return vector_of(*heads, DType::f32);
  }
  if (const auto* integers = std::get_if<std::vector<std::int32_t>>(&number.value)) {
    return vector_of(*integers, DType::i32);
  }
  if (const auto* bytes = std::get_if<std::vector<std::uint8_t>>(&number.value)) {
    return vector_of(*bytes, DType::u8);
  }
  const auto& table = std::get<FloatTable>(number.value);
  const auto rows = static_cast<std::int64_t>(table.numbers.size()) / table.columns;
  return TensorView::contiguous(const_cast<float*>(table.numbers.data()), DType::f32, {rows, table.columns});
}

void append_values(const std::vector<NamedNumber>& numbers, const Engine* engine, std::vector<DeviceBuffer>& on_device,
                   std::vector<Value>& values) {
  for (const NamedNumber& number : numbers) {
    if (const auto* integer = std::get_if<std::int64_t>(&number.value)) {
      values.emplace_back(number.name, *integer);
    } else if (const auto* real = std::get_if<double>(&number.value)) {
      values.emplace_back(number.name, *real);
    } else {
      TensorView table = table_of(number);
      if (engine != nullptr && engine->device().type != DeviceType::cpu) {
        const auto bytes = static_cast<std::size_t>(bytes_of(table.dtype, table.numel()));
        on_device.emplace_back(*engine, bytes);
        on_device.back().write(table.data, bytes);
        table.data = on_device.back().data();
        table.device = engine->device();
      }
      values.emplace_back(number.name, table);
    }
  }
}

}  // namespace

WorkloadValues::WorkloadValues(const Workload& workload, const Engine* engine) {
  append_values(workload.mask, engine, device_numbers_, mask_values_);
  append_values(workload.params, engine, device_numbers_, params_);
  mask_ = {.values = mask_values_, .any = workload.any_mask, .tiles = workload.tiles};
}

}  // namespace fovea::bench
