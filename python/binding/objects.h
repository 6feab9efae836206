// Fovea's handles as objects that Python counts references of. Their fields are handles themselves: an object keeps what it was made by.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <utility>

#include "fovea/fovea.h"

namespace fovea::python {

/// Without a default constructor: with one, tvm-ffi would let Python copy and pickle an object without its fields.
struct EngineObject : tvm::ffi::Object {
  explicit EngineObject(const EngineOptions& options) : engine(options), device(engine.device()) {}
  Engine engine;
  Device device;
  static constexpr const char* kNoun = "an Engine";
  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("fovea.Engine", EngineObject, tvm::ffi::Object);
};

struct AttentionObject : tvm::ffi::Object {
  AttentionObject(Attention prepared, Device on) : attention(std::move(prepared)), device(on) {}
  Attention attention;
  Device device;
  static constexpr const char* kNoun = "an Attention";
  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("fovea.Attention", AttentionObject, tvm::ffi::Object);
};

struct PlanObject : tvm::ffi::Object {
  explicit PlanObject(const AttentionObject& maker) : attention(maker.attention), device(maker.device), plan(attention.new_plan()) {}
  Attention attention;
  Device device;
  Plan plan;
  static constexpr const char* kNoun = "a Plan";
  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("fovea.Plan", PlanObject, tvm::ffi::Object);
};

/// A layer's K and V, read once: the Python object that it belongs to keeps their memory.
struct KvCacheObject : tvm::ffi::Object {
  explicit KvCacheObject(const KvCache& views) : cache(views) {}
  KvCache cache;
  static constexpr const char* kNoun = "a KvCache";
  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("fovea.KvCache", KvCacheObject, tvm::ffi::Object);
};

void register_engine_functions();     // engine.cc
void register_attention_functions();  // attention.cc

}  // namespace fovea::python
