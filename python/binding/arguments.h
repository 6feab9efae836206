// What a call from Python brings: tvm-ffi's argument list, read in order into the types of the public API. Every function of the binding
// reads its arguments through this and is wrapped by `guarded`, which turns the library's errors into Python's.
#pragma once

#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/fovea.h"

namespace fovea::python {

namespace ffi = tvm::ffi;

/// A Python exception of `kind`. Not TVM_FFI_THROW: its backtrace takes seconds the first time.
[[noreturn]] void raise(const char* kind, const std::string& text);

/// Names of parameters as small integers, so that a call hands over no strings. Never forgotten: there are as many as variants declare.
std::int64_t intern(std::string_view name);
std::string_view interned(std::int64_t id);

class Arguments {
 public:
  Arguments(const char* where, ffi::PackedArgs args) : where_(where), args_(args) {}

  bool done() const { return next_ == args_.size(); }
  const char* where() const { return where_; }

  /// The object of ours that comes next.
  template <class Object>
  Object& object() {
    const ffi::AnyView value = take();
    const Object* const object = value.as<Object>();
    if (object == nullptr) {
      wrong_type("object", Object::kNoun, value);
    }
    return *const_cast<Object*>(object);  // as<>() gives every object as const
  }
  std::int64_t integer(const char* name);
  std::int32_t integer32(const char* name);
  double number(const char* name);
  bool is_none();  // takes it when it is
  std::string text(const char* name);
  std::string_view name() { return interned(integer("name")); }

  TensorView tensor(const char* name);
  TensorView optional_tensor(const char* name);   // None: not given
  TensorView optional_lengths(const char* name);  // a list of Python's integers too; lives as long as this
  Scale scale(const char* name);                  // None: 1
  Value value(std::string_view name);
  /// None: the stream that is current where the call's tensors come from (tvm-ffi asks for it), else the one given.
  Stream stream(Device device);

 private:
  ffi::AnyView take();
  [[noreturn]] void wrong_type(std::string_view name, std::string_view wanted, const ffi::AnyView& found) const;
  TensorView view(std::string_view name, const ffi::TensorView& tensor) const;

  const char* where_;
  ffi::PackedArgs args_;
  int next_ = 0;
  std::deque<std::vector<std::int32_t>> lists_;
};

/// Rethrows the exception being handled as a Python one.
[[noreturn]] void rethrow_for_python();

/// A function of the binding as tvm-ffi calls it. `where`: what its errors begin with; null: the name after its dot.
template <ffi::Any (*Body)(Arguments&)>
void register_function(const char* name, const char* where = nullptr) {
  if (where == nullptr) {
    where = std::string_view(name).rfind('.') + 1 + name;
  }
  ffi::Function::SetGlobal(name, ffi::Function::FromPacked([where](ffi::PackedArgs args, ffi::Any* result) {
                             try {
                               Arguments arguments(where, args);
                               *result = Body(arguments);
                             } catch (...) {
                               rethrow_for_python();
                             }
                           }),
                           /*override=*/false);
}

}  // namespace fovea::python
