#include "serving/step_tables.h"

#include <algorithm>

namespace fovea::serving {

StepTables::StepTables(const Engine& engine, const Capacity& capacity)
    : qo_indptr_(engine, capacity.requests + 1),
      page_indptr_(engine, capacity.requests + 1),
      last_page_len_(engine, capacity.requests),
      num_requests_(engine, 1),
      page_indices_(engine, capacity.entries),
      slots_(engine, capacity.tokens),
      device_tables_(KvTables::csr(page_indptr_.all(), page_indices_.all(), last_page_len_.all())),
      device_batch_{.qo_indptr = qo_indptr_.all(), .kv = {&device_tables_, 1}, .num_requests = num_requests_.all()} {}

void StepTables::set(const Step& step, const Scheduler& scheduler, std::int32_t page_size) {
  std::int32_t* const qo_indptr = qo_indptr_.host();
  std::int32_t* const page_indptr = page_indptr_.host();
  std::int64_t* slot = slots_.host();
  qo_indptr[0] = page_indptr[0] = 0;
  for (std::size_t i = 0; i < step.work.size(); ++i) {
    const ScheduledWork& work = step.work[i];
    const std::span<const std::int32_t> pages = scheduler.pages_of(work.request);
    std::copy(pages.begin(), pages.end(), page_indices_.host() + page_indptr[i]);
    page_indptr[i + 1] = page_indptr[i] + static_cast<std::int32_t>(pages.size());
    qo_indptr[i + 1] = qo_indptr[i] + work.count;
    last_page_len_.host()[i] = (work.first + work.count - 1) % page_size + 1;
    for (std::int32_t token = work.first; token < work.first + work.count; ++token) {
      *slot++ = std::int64_t{pages[static_cast<std::size_t>(token / page_size)]} * page_size + token % page_size;
    }
  }
  const auto num_requests = static_cast<std::int64_t>(step.work.size());
  const std::int64_t num_entries = page_indptr[num_requests];
  std::fill(slot, slots_.host() + slots_.capacity(), -1);
  *num_requests_.host() = static_cast<std::int32_t>(num_requests);
  qo_indptr_.upload(num_requests + 1);
  page_indptr_.upload(num_requests + 1);
  last_page_len_.upload(num_requests);
  num_requests_.upload(1);
  page_indices_.upload(num_entries);
  slots_.upload(slots_.capacity());
  tables_ = KvTables::csr(page_indptr_.first_on_host(num_requests + 1), page_indices_.first(num_entries),
                          last_page_len_.first_on_host(num_requests));
  batch_ = {.qo_indptr = qo_indptr_.first_on_host(num_requests + 1), .kv = {&tables_, 1}};
}

}  // namespace fovea::serving
