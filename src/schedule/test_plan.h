// Test support: a batch with its arrays, planned into memory of exactly the promised bytes, and what must be true of any plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "portable/schedule.h"
#include "src/schedule/schedule.h"

namespace fovea::test {

/// The arrays of one format; empty means not given.
struct FormatArrays {
  std::vector<std::int32_t> page_indptr, last_page_len, kv_len, row_indptr, row_indices, kv_pos;
  std::int32_t kv_pos_stride = 1;
};

/// A batch that owns its arrays. view() fills in what check_batch() would.
struct TestBatch {
  std::vector<std::int32_t> qo_indptr = {0};
  std::vector<std::int32_t> kv_len, q_pos;
  std::vector<FormatArrays> formats;
  BatchView view(const Problem& problem) const;
};

/// Requests with one paged format: {query tokens, kv tokens} each.
struct Lengths {
  std::int32_t qo_len, kv_len;
};
TestBatch paged_batch(const Problem& problem, const std::vector<Lengths>& requests);

/// A batch, planned. Memory is poisoned first and has guard bytes behind it.
class TestPlan {
 public:
  TestPlan(const Problem& problem, const Choice& choice, const TestBatch& batch, KvRange range, std::uint8_t poison = 0xa5);
  TestPlan(const TestPlan&) = delete;

  const KernelParams& params() const { return params_; }
  const PlanCapacity& capacity() const { return capacity_; }
  std::int32_t num_slots() const { return *arrays_.mask_groups[0].num_slots; }
  bool guard_intact() const;
  PlanView view() const;
  std::vector<WorkItem> items() const;  // of all workers and lists
  std::vector<MergeItem> merges() const;
  std::string bytes() const;  // of everything a kernel reads

 private:
  PlanCapacity capacity_;
  BatchView batch_;
  std::vector<std::uint8_t> memory_;
  PlanArraysMut arrays_;
  KernelParams params_{};
};

/// Empty when every promise holds: coverage, single finalisation, slots, merges, composed rows. Else the first that doesn't, with values.
std::string broken_promise(const Problem& problem, const TestPlan& plan);

}  // namespace fovea::test
