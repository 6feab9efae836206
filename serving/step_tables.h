// StepTables: a step as the integer arrays that plan() and append_kv() read. Lengths are on the host, page ids and slots on the device.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/engine.h"
#include "serving/scheduler.h"
#include "serving/shared_buffer.h"

namespace fovea::serving {

class StepTables {
 public:
  /// Room for steps of so many tokens and entries of their page tables.
  StepTables(const Engine& engine, std::int64_t max_tokens, std::int64_t max_entries);
  StepTables(const StepTables&) = delete;  // batch_ points into the object
  StepTables& operator=(const StepTables&) = delete;

  /// Page tables are read from the scheduler. The views below are those of this step until the next call.
  void set(const Step& step, const Scheduler& scheduler, std::int32_t page_size);

  const Batch& batch() const { return batch_; }
  const TensorView& slot_mapping() const { return slot_mapping_; }  // where the step's tokens go

 private:
  Device device_;
  std::vector<std::int32_t> qo_indptr_, page_indptr_, last_page_len_;
  SharedBuffer page_indices_, slots_;
  KvTables tables_;
  Batch batch_;
  TensorView slot_mapping_;
};

}  // namespace fovea::serving
