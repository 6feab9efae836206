// OnEngine: tensors of a test where an engine reads them: themselves on the host, copies on a GPU that come back with fetch().
#pragma once

#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "fovea/device_buffer.h"
#include "fovea/engine.h"

namespace fovea::check {

/// For one call of an engine. Views of the same memory stay views of the same memory.
class OnEngine {
 public:
  explicit OnEngine(const Engine& engine) : engine_(engine) {}
  OnEngine(const OnEngine&) = delete;
  OnEngine& operator=(const OnEngine&) = delete;

  TensorView operator()(TensorView tensor) {
    if (!tensor.defined() || engine_.device() == tensor.device) {
      return tensor;
    }
    std::int64_t elements = tensor.numel() == 0 ? 0 : 1;
    for (int axis = 0; axis < tensor.ndim && elements > 0; ++axis) {
      elements += (tensor.dim(axis) - 1) * tensor.stride(axis);
    }
    const auto bytes = static_cast<std::size_t>(bytes_of(tensor.dtype, elements));
    auto it = copies_.find({tensor.data, bytes});
    if (it == copies_.end()) {
      it = copies_.try_emplace({tensor.data, bytes}, engine_, bytes + kAtLeast).first;
      it->second.write(tensor.data, bytes);
    }
    tensor.data = it->second.data();
    tensor.device = engine_.device();
    return tensor;
  }
  Scale operator()(Scale scale) {
    scale.tensor = (*this)(scale.tensor);
    return scale;
  }
  KvCache operator()(KvCache cache) {
    cache.k = (*this)(cache.k);
    cache.v = (*this)(cache.v);
    cache.k_scale = (*this)(cache.k_scale);
    cache.v_scale = (*this)(cache.v_scale);
    return cache;
  }
  State operator()(const State& state) { return {.o = (*this)(state.o), .lse = (*this)(state.lse)}; }

  /// Page ids alone: plan() reads all others on the host.
  KvTables page_ids(KvTables tables) {
    tables.page_indices = (*this)(tables.page_indices);
    tables.page_table = (*this)(tables.page_table);
    return tables;
  }
  /// Valid as long as this object.
  RunArgs operator()(RunArgs args) {
    args.q = (*this)(args.q);
    args.o = (*this)(args.o);
    args.lse = (*this)(args.lse);
    for (const KvCache& cache : args.kv) {
      caches_.push_back((*this)(cache));
    }
    args.kv = caches_;
    for (const Value& value : args.params) {
      params_.push_back(value);
      if (auto* tensor = std::get_if<TensorView>(&params_.back().value)) {
        *tensor = (*this)(*tensor);
      }
    }
    args.params = params_;
    return args;
  }

  /// Waits for the engine; then the host has what it wrote.
  void fetch() const {
    engine_.synchronise();
    for (const auto& [host, copy] : copies_) {
      copy.read(host.first, host.second);
    }
  }

 private:
  static constexpr std::size_t kAtLeast = 16;  // of an allocation: empty tensors have an address too
  const Engine& engine_;
  std::map<std::pair<void*, std::size_t>, DeviceBuffer> copies_;  // by address and bytes on the host
  std::vector<KvCache> caches_;
  std::vector<Value> params_;
};

}  // namespace fovea::check
