// A case's tensors where an engine can read them: as they are on the cpu, copies on a GPU. Every tensor keeps an allocation of its own.
#pragma once

#include <map>
#include <vector>

#include "check/case.h"
#include "check/compare.h"
#include "fovea/device_buffer.h"

namespace fovea::check {

class CaseOnDevice {
 public:
  CaseOnDevice(const Engine& engine, const Case& c);
  CaseOnDevice(const CaseOnDevice&) = delete;
  CaseOnDevice& operator=(const CaseOnDevice&) = delete;

  const Batch& batch() const { return batch_; }
  std::span<const MaskValues> masks() const { return masks_; }
  const RunArgs& run() const { return run_; }

 private:
  TensorView moved(TensorView tensor) const;
  Scale moved(Scale scale) const;
  std::vector<Value> moved(Values values) const;

  Device device_;
  std::map<const std::byte*, DeviceBuffer> buffers_;  // by the host address of a block; empty on the cpu
  Batch batch_;
  RunArgs run_;
  // What the views above point into.
  std::vector<KvTables> tables_;
  std::vector<KvCache> caches_;
  std::vector<Value> params_;
  std::vector<MaskValues> masks_;
  std::vector<std::vector<Value>> mask_values_;
};

/// Outputs of one run, on the device until fetch().
class OutputsOnDevice {
 public:
  OutputsOnDevice(const Engine& engine, Outputs& outputs);
  TensorView o() const { return o_; }
  TensorView lse() const { return lse_; }
  void fetch();  // waits for the run; the host's outputs then hold it

 private:
  const Engine& engine_;
  Outputs& outputs_;
  std::vector<DeviceBuffer> buffers_;  // o, lse; empty on the cpu
  TensorView o_, lse_;
};

}  // namespace fovea::check
