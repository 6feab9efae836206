// The door of libfovea_python.so: the package calls fovea_register once, after loading it. Nothing runs before that: static initialisers
// would abort the process when a second copy of the library is loaded, where this raises an error.
#include <tvm/ffi/tvm_ffi.h>

#include "fovea/version.h"
#include "python/binding/arguments.h"
#include "python/binding/objects.h"

namespace fovea::python {

namespace {

/// Returns the version, which the package compares with its own.
tvm::ffi::String register_all() {
  try {
    register_engine_functions();
    register_attention_functions();
  } catch (const tvm::ffi::Error&) {
    raise("RuntimeError",
          "fovea: another copy of libfovea_python.so is loaded in this process; keep one: an installed package or a development build");
  }
  return std::to_string(FOVEA_VERSION_MAJOR) + "." + std::to_string(FOVEA_VERSION_MINOR) + "." + std::to_string(FOVEA_VERSION_PATCH);
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(fovea_register, register_all)

}  // namespace fovea::python
