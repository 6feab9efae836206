#include "serving/step_tables.h"

#include <algorithm>

namespace fovea::serving {
namespace {

constexpr std::int64_t kPageIdBytes = sizeof(std::int32_t), kSlotBytes = sizeof(std::int64_t);

}  // namespace

StepTables::StepTables(const Engine& engine, std::int64_t max_tokens, std::int64_t max_entries)
    : device_(engine.device()), page_indices_(engine, kPageIdBytes * max_entries), slots_(engine, kSlotBytes * max_tokens) {}

void StepTables::set(const Step& step, const Scheduler& scheduler, std::int32_t page_size) {
  qo_indptr_.assign(1, 0);
  page_indptr_.assign(1, 0);
  last_page_len_.clear();
  auto* slot = slots_.host_as<std::int64_t>();
  for (const ScheduledWork& work : step.work) {
    const std::span<const std::int32_t> pages = scheduler.pages_of(work.request);
    std::copy(pages.begin(), pages.end(), page_indices_.host_as<std::int32_t>() + page_indptr_.back());
    page_indptr_.push_back(page_indptr_.back() + static_cast<std::int32_t>(pages.size()));
    qo_indptr_.push_back(qo_indptr_.back() + work.count);
    last_page_len_.push_back((work.first + work.count - 1) % page_size + 1);
    for (std::int32_t token = work.first; token < work.first + work.count; ++token) {
      *slot++ = std::int64_t{pages[static_cast<std::size_t>(token / page_size)]} * page_size + token % page_size;
    }
  }
  const std::int64_t num_entries = page_indptr_.back(), num_tokens = qo_indptr_.back();
  page_indices_.upload(kPageIdBytes * num_entries);
  slots_.upload(kSlotBytes * num_tokens);
  slot_mapping_ = TensorView::contiguous(slots_.device(), DType::i64, {num_tokens}, device_);
  tables_ = KvTables::csr(TensorView::of(page_indptr_), TensorView::contiguous(page_indices_.device(), DType::i32, {num_entries}, device_),
                          TensorView::of(last_page_len_));
  batch_ = {.qo_indptr = TensorView::of(qo_indptr_), .kv = {&tables_, 1}};
}

}  // namespace fovea::serving
