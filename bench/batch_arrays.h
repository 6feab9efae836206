// BatchArrays: a workload's lengths as the integer arrays that plan() reads, with page ids in random order as a server's cache has them.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/workload.h"
#include "fovea/device_buffer.h"
#include "fovea/engine.h"

namespace fovea::bench {

class BatchArrays {
 public:
  /// `shuffle_pages` = false numbers pages in order, which costs nothing where nobody reads them.
  explicit BatchArrays(const Workload& workload, bool shuffle_pages = true);
  BatchArrays(BatchArrays&&) = default;
  BatchArrays& operator=(BatchArrays&&) = delete;

  const Batch& batch() const { return batch_; }
  std::int64_t num_pages() const { return num_pages_; }  // that the tables use; ragged: tokens

  /// Page ids move to where `engine` reads them.
  void put_pages_on(const Engine& engine);

  /// Tokens that lie one behind the other in a cache [pages, page_size, ...].
  struct Piece {
    std::int32_t slot, num_tokens;  // slot: page * page_size + offset
  };
  /// The tables' tokens in order, in pieces of at most so many tokens. With a window of so many tokens those alone that the requests'
  /// queries, their last tokens, see; of batches with one format.
  std::vector<Piece> pieces(std::int32_t max_tokens, std::int64_t window = 0) const;

 private:
  struct Table {
    std::vector<std::int32_t> page_indptr = {0}, page_indices, last_page_len, row_indptr, num_tokens;
    std::vector<std::int32_t> page_table;  // 2-D: the same pages, `width` entries a group
    std::int32_t width = 1;
    KvTables as_2d();
  };
  void add_group(Table& table, const KvFormat& format, std::int32_t num_tokens);

  // Vectors keep their memory when the object moves, so that the views in batch_ stay right.
  std::vector<std::int32_t> qo_indptr_ = {0};
  std::vector<Table> tables_;
  std::vector<KvTables> views_;
  std::vector<KvFormat> formats_;
  std::vector<DeviceBuffer> device_pages_;
  Batch batch_;
  std::int64_t num_pages_ = 0;
};

/// Values of a workload's mask and parameters in the form that plan() and run() take. Borrows the workload.
class WorkloadValues {
 public:
  /// Numbers per head go to `engine`'s device, where that is not the host.
  explicit WorkloadValues(const Workload& workload, const Engine* engine = nullptr);
  WorkloadValues(const WorkloadValues&) = delete;
  WorkloadValues& operator=(const WorkloadValues&) = delete;

  PlanArgs plan_args() const { return {.masks = std::span(&mask_, 1)}; }
  Values params() const { return params_; }
  const MaskValues& mask() const { return mask_; }

 private:
  std::vector<DeviceBuffer> device_numbers_;
  std::vector<Value> mask_values_, params_;
  MaskValues mask_;
};

}  // namespace fovea::bench
