#include "src/problem/batch_fixtures.h"
#include "src/problem/error_cases.h"

namespace fovea::test {
namespace {

constexpr Device kGpu{DeviceType::cuda, 0};

/// A step whose integers are on a GPU. Nothing of the checks reads them.
template <class Host>
struct OnDevice : Host {
  Ints num_requests{3};
  OnDevice() {
    this->batch.num_requests = TensorView::of(num_requests);
    for (TensorView* tensor : {&this->batch.qo_indptr, &this->batch.num_requests}) {
      tensor->device = kGpu;
    }
    for (KvTables& t : this->kv) {
      for (TensorView* tensor :
           {&t.page_indptr, &t.page_indices, &t.page_table, &t.table_rows, &t.last_page_len, &t.kv_len, &t.row_indptr}) {
        tensor->device = kGpu;
      }
    }
  }
  BatchView check() {
    this->batch.kv = this->kv;
    return check_device_batch(check_problem(this->spec, this->limits, {}), this->batch, kGpu);
  }
};

}  // namespace

std::vector<ErrorCase> device_batch_error_cases() {
  using Csr = OnDevice<CsrStep>;
  using Table = OnDevice<TableStep>;
  using Ragged = OnDevice<RaggedStep>;
  return {
      wrong<Csr>("plan: max_query_tokens = 17; it must be 0 to limits.max_query_tokens = 16",
                 [](Csr& c) { c.batch.max_query_tokens = 17; }),
      wrong<Csr>("plan: num_requests has 2 entries; it needs 1", [](Csr& c) { set_dim(c.batch.num_requests, 0, 2); }),
      wrong<Csr>("plan: kv_len is on cpu but the engine runs on cuda:0", [](Csr& c) { c.batch.kv_len = TensorView::of(c.kv_len); }),
      wrong<Csr>("plan: kv[0].page_indptr has 3 entries; it needs 5", [](Csr& c) { set_dim(c.kv[0].page_indptr, 0, 3); }),
      wrong<Csr>("plan: kv[0].last_page_len has 2 entries; it needs 4", [](Csr& c) { set_dim(c.kv[0].last_page_len, 0, 2); }),
      wrong<Table>("plan: kv[0].page_table has 2 rows for 4 groups; give more, or table_rows",
                   [](Table& c) { c.kv[0].table_rows = {}, set_dim(c.kv[0].page_table, 0, 2); }),
      wrong<Ragged>(
          "plan: kv[0].ragged_tokens = 0; with page_indptr on cuda:0 it is needed: at most so many tokens, which K and V of every "
          "run hold",
          [](Ragged&) {}),
  };
}

}  // namespace fovea::test
