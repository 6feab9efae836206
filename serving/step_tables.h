// StepTables: a step as the integer arrays that plan() and append_kv() read, at the same addresses in every step. Lengths are on the host
// and on the device, page ids and slots on the device.
#pragma once

#include <cstdint>
#include <vector>

#include "fovea/engine.h"
#include "serving/scheduler.h"
#include "serving/shared_buffer.h"

namespace fovea::serving {

class StepTables {
 public:
  /// Of any step.
  struct Capacity {
    std::int64_t tokens = 0, requests = 0, entries = 0;  // entries: of its page tables
  };

  StepTables(const Engine& engine, const Capacity& capacity);
  StepTables(const StepTables&) = delete;  // batches point into the object
  StepTables& operator=(const StepTables&) = delete;

  /// Page tables are read from the scheduler. The views below are those of this step until the next call.
  void set(const Step& step, const Scheduler& scheduler, std::int32_t page_size);

  const Batch& batch() const { return batch_; }                // lengths on the host
  const Batch& device_batch() const { return device_batch_; }  // lengths on the device: the same tensors in every step
  /// Where the step's tokens go. Of more than the step has, the rest goes nowhere.
  TensorView slot_mapping(std::int64_t num_tokens) const { return slots_.first(num_tokens); }

 private:
  /// Integers of which a step uses the first ones.
  template <class T>
  class Integers {
   public:
    Integers(const Engine& engine, std::int64_t capacity)
        : memory_(engine, static_cast<std::int64_t>(sizeof(T)) * capacity), capacity_(capacity), device_(engine.device()) {}
    T* host() const { return memory_.template host_as<T>(); }
    void upload(std::int64_t count) const { memory_.upload(static_cast<std::int64_t>(sizeof(T)) * count); }
    std::int64_t capacity() const { return capacity_; }
    TensorView first(std::int64_t count) const {
      return TensorView::contiguous(memory_.device(), sizeof(T) == 4 ? DType::i32 : DType::i64, {count}, device_);
    }
    TensorView all() const { return first(capacity_); }
    TensorView first_on_host(std::int64_t count) const {
      return TensorView::of(std::span<const T>(host(), static_cast<std::size_t>(count)));
    }

   private:
    SharedBuffer memory_;
    std::int64_t capacity_;
    Device device_;
  };

  Integers<std::int32_t> qo_indptr_, page_indptr_, last_page_len_, num_requests_, page_indices_;
  Integers<std::int64_t> slots_;
  KvTables tables_, device_tables_;
  Batch batch_, device_batch_;
};

}  // namespace fovea::serving
