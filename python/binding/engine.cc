// Functions of an engine: making one, preparing, states, appending, what it says of itself.
#include "python/binding/arguments.h"
#include "python/binding/objects.h"
#include "python/binding/readers.h"

namespace fovea::python {

namespace {

ffi::Any make_engine(Arguments& from) {
  EngineOptions options;
  options.backend = from.text("backend");
  options.device_id = from.integer32("device_id");
  options.num_threads = from.integer32("num_threads");
  options.isa = from.text("isa");
  return ffi::ObjectRef(ffi::make_object<EngineObject>(options));
}

ffi::Any prepare(Arguments& from) {
  const EngineObject& self = from.object<EngineObject>();
  const AttentionSpec spec = spec_from(from);
  const Limits limits = limits_from(from);
  const PrepareOptions options = prepare_options_from(from);
  return ffi::ObjectRef(ffi::make_object<AttentionObject>(self.engine.prepare(spec, limits, options), self.device));
}

State state_from(Arguments& from) {
  State state;
  state.o = from.tensor("o");
  state.lse = from.tensor("lse");
  return state;
}

ffi::Any merge_states(Arguments& from) {
  const EngineObject& self = from.object<EngineObject>();
  const Stream stream = from.stream(self.device);
  const State out = state_from(from);
  std::vector<State> states;
  while (!from.done()) {
    states.push_back(state_from(from));
  }
  self.engine.merge_states(states, out, stream);
  return nullptr;
}

ffi::Any append_kv(Arguments& from) {
  const EngineObject& self = from.object<EngineObject>();
  const Stream stream = from.stream(self.device);
  AppendArgs args;
  args.k = from.tensor("k");
  args.v = from.tensor("v");
  args.kv_quant = quant_from(from);
  args.cache = cache_from(from);
  args.slot_mapping = from.optional_tensor("slot_mapping");
  args.append_indptr = from.optional_lengths("append_indptr");
  if (!from.done()) {
    args.tables = tables_from(from);
  }
  self.engine.append_kv(args, stream);
  return nullptr;
}

ffi::Any synchronise(Arguments& from) {
  const EngineObject& self = from.object<EngineObject>();
  self.engine.synchronise(from.stream(self.device));
  return nullptr;
}

ffi::Any status(Arguments& from) {
  ffi::Array<ffi::String> found;
  for (const std::string& line : from.object<EngineObject>().engine.status()) {
    found.push_back(line);
  }
  return found;
}

ffi::Any describe(Arguments& from) { return ffi::String(from.object<EngineObject>().engine.describe()); }
ffi::Any device(Arguments& from) { return ffi::String(from.object<EngineObject>().device.to_string()); }

ffi::Array<ffi::String> list_of(const std::vector<std::string>& names) {
  ffi::Array<ffi::String> list;
  for (const std::string& name : names) {
    list.push_back(name);
  }
  return list;
}

/// name, masks, params, interval of each.
ffi::Any variants(Arguments& from) {
  ffi::Array<ffi::Any> all;
  for (const VariantDescription& variant : from.object<EngineObject>().engine.variants()) {
    all.push_back(
        ffi::Array<ffi::Any>{ffi::String(variant.name), list_of(variant.masks), list_of(variant.params), ffi::String(variant.interval)});
  }
  return all;
}

/// The fields of each CompileRecord, in order; `when` left out.
ffi::Any compiled(Arguments& from) {
  ffi::Array<ffi::Any> all;
  for (const CompileRecord& record : from.object<EngineObject>().engine.compiled()) {
    all.push_back(ffi::Array<ffi::Any>{ffi::String(record.variant), ffi::String(record.target), ffi::String(record.compiler), record.cached,
                                       record.seconds, record.cpu_seconds, ffi::String(record.path)});
  }
  return all;
}

ffi::Any name_id(Arguments& from) { return intern(from.text("name")); }

}  // namespace

void register_engine_functions() {
  register_function<make_engine>("fovea.engine");
  register_function<prepare>("fovea.prepare");
  register_function<merge_states>("fovea.merge_states");
  register_function<append_kv>("fovea.append_kv");
  register_function<synchronise>("fovea.synchronise");
  register_function<status>("fovea.status");
  register_function<describe>("fovea.describe");
  register_function<device>("fovea.device");
  register_function<variants>("fovea.variants");
  register_function<compiled>("fovea.compiled");
  register_function<name_id>("fovea.name_id");
}

}  // namespace fovea::python
