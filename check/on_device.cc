#include "check/on_device.h"

#include <fmt/format.h>

#include "fovea/error.h"

namespace fovea::check {

CaseOnDevice::CaseOnDevice(const Engine& engine, const Case& c)
    : device_(engine.device()), batch_(c.batch), run_(c.run), tables_(c.tables), caches_(c.caches), masks_(c.masks) {
  if (device_.type != DeviceType::cpu) {
    for (const Memory::Block& block : c.memory.blocks()) {
      const auto [it, inserted] = buffers_.emplace(block.bytes.get(), DeviceBuffer(engine, block.size));
      it->second.write(block.bytes.get(), block.size);
    }
  }
  for (KvTables& t : tables_) {  // lengths stay where plan() reads them
    t.page_indices = moved(t.page_indices);
    t.page_table = moved(t.page_table);
  }
  batch_.kv = tables_;
  for (KvCache& cache : caches_) {
    cache.k = moved(cache.k);
    cache.v = moved(cache.v);
    cache.k_scale = moved(cache.k_scale);
    cache.v_scale = moved(cache.v_scale);
  }
  mask_values_.reserve(masks_.size() + 1);  // views of them stay valid
  for (MaskValues& mask : masks_) {
    mask.values = mask_values_.emplace_back(moved(mask.values));
  }
  run_.q = moved(run_.q);
  run_.kv = caches_;
  params_ = moved(run_.params);
  run_.params = params_;
  if (run_.mask) {
    run_.mask->values = mask_values_.emplace_back(moved(run_.mask->values));
  }
}

TensorView CaseOnDevice::moved(TensorView tensor) const {
  if (buffers_.empty() || !tensor.defined()) {
    return tensor;
  }
  const auto* data = static_cast<const std::byte*>(tensor.data);
  auto it = buffers_.upper_bound(data);
  if (it == buffers_.begin() || data > (--it)->first + it->second.bytes()) {
    throw InternalError("check: a tensor of a case is in no memory of it");
  }
  tensor.data = static_cast<std::byte*>(it->second.data()) + (data - it->first);
  tensor.device = device_;
  return tensor;
}

Scale CaseOnDevice::moved(Scale scale) const {
  scale.tensor = moved(scale.tensor);
  return scale;
}

std::vector<Value> CaseOnDevice::moved(Values values) const {
  std::vector<Value> copies(values.begin(), values.end());
  for (Value& value : copies) {
    if (const TensorView* tensor = std::get_if<TensorView>(&value.value)) {
      value.value = moved(*tensor);
    }
  }
  return copies;
}

OutputsOnDevice::OutputsOnDevice(const Engine& engine, Outputs& outputs)
    : engine_(engine), outputs_(outputs), o_(outputs.o), lse_(outputs.lse) {
  if (engine.device().type == DeviceType::cpu) {
    return;
  }
  for (const auto& [memory, view] : {std::pair{&outputs.o_memory, &o_}, std::pair{&outputs.lse_memory, &lse_}}) {
    const DeviceBuffer& buffer = buffers_.emplace_back(engine, memory->size());
    buffer.write(memory->data(), memory->size());
    if (view->defined()) {
      view->data = buffer.data();
      view->device = engine.device();
    }
  }
}

void OutputsOnDevice::fetch() {
  if (!buffers_.empty()) {
    engine_.synchronise();
    buffers_[0].read(outputs_.o_memory.data(), outputs_.o_memory.size());
    buffers_[1].read(outputs_.lse_memory.data(), outputs_.lse_memory.size());
  }
}

}  // namespace fovea::check
