#include "python/binding/arguments.h"

#include <tvm/ffi/extra/c_env_api.h>

#include <limits>
#include <map>
#include <mutex>
#include <new>

namespace fovea::python {

namespace {

struct Names {
  std::mutex mutex;
  std::deque<std::string> texts;  // addresses stay
  std::map<std::string, std::int64_t, std::less<>> ids;
};

Names& names() {
  static Names all;
  return all;
}

/// What a Python user calls a value of this kind.
std::string noun_of(const ffi::AnyView& value) {
  switch (value.type_index()) {
    case kTVMFFINone:
      return "None";
    case kTVMFFIInt:
      return "an int";
    case kTVMFFIBool:
      return "a bool";
    case kTVMFFIFloat:
      return "a float";
    case kTVMFFIDLTensorPtr:
    case kTVMFFITensor:
      return "a tensor";
    case kTVMFFIRawStr:
    case kTVMFFISmallStr:
    case kTVMFFIStr:
      return "a str";
    case kTVMFFIArray:
    case kTVMFFIList:
      return "a list";
    case kTVMFFIMap:
    case kTVMFFIDict:
      return "a dict";
    default:
      return "an object that holds no tensor";
  }
}

const char* python_kind(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "ValueError";
    case ErrorCode::unsupported:
      return "NotImplementedError";
    case ErrorCode::compile_failed:
    case ErrorCode::device_failed:
    case ErrorCode::internal:
      return "RuntimeError";
  }
  return "RuntimeError";
}

}  // namespace

void raise(const char* kind, const std::string& text) { throw ffi::Error(kind, text, ""); }

void rethrow_for_python() {
  try {
    throw;
  } catch (const ffi::Error&) {
    throw;
  } catch (const Error& error) {
    raise(python_kind(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    raise("MemoryError", "the host has no memory left");
  } catch (const std::exception& error) {
    raise("RuntimeError", error.what());
  }
}

std::int64_t intern(std::string_view name) {
  Names& all = names();
  const std::lock_guard lock(all.mutex);
  const auto known = all.ids.find(name);
  if (known != all.ids.end()) {
    return known->second;
  }
  all.texts.emplace_back(name);
  return all.ids.emplace(std::string(name), static_cast<std::int64_t>(all.texts.size()) - 1).first->second;
}

std::string_view interned(std::int64_t id) {
  Names& all = names();
  const std::lock_guard lock(all.mutex);
  return all.texts.at(static_cast<std::size_t>(id));
}

ffi::AnyView Arguments::take() {
  if (done()) {
    raise("TypeError", std::string(where_) + ": too few arguments; the Python files and the library are of different versions");
  }
  return args_[next_++];
}

void Arguments::wrong_type(std::string_view name, std::string_view wanted, const ffi::AnyView& found) const {
  raise("TypeError", std::string(where_) + ": " + std::string(name) + " is " + noun_of(found) + "; it must be " + std::string(wanted));
}

std::int64_t Arguments::integer(const char* name) {
  const ffi::AnyView value = take();
  const std::optional<std::int64_t> number = value.try_cast<std::int64_t>();
  if (!number.has_value()) {
    wrong_type(name, "an int", value);
  }
  return *number;
}

std::int32_t Arguments::integer32(const char* name) {
  const std::int64_t number = integer(name);
  if (number != static_cast<std::int32_t>(number)) {
    raise("ValueError", std::string(where_) + ": " + name + " = " + std::to_string(number) + " does not fit into 32 bits");
  }
  return static_cast<std::int32_t>(number);
}

double Arguments::number(const char* name) {
  const ffi::AnyView value = take();
  const std::optional<double> number = value.try_cast<double>();
  if (!number.has_value()) {
    wrong_type(name, "a number", value);
  }
  return *number;
}

bool Arguments::is_none() {
  if (done() || args_[next_] != nullptr) {
    return false;
  }
  ++next_;
  return true;
}

std::string Arguments::text(const char* name) {
  const ffi::AnyView value = take();
  const std::optional<ffi::String> text = value.try_cast<ffi::String>();
  if (!text.has_value()) {
    wrong_type(name, "a str", value);
  }
  return std::string(text->data(), text->size());
}

TensorView Arguments::view(std::string_view name, const ffi::TensorView& tensor) const {
  if (tensor.data_ptr() == nullptr && tensor.numel() != 0) {
    raise("ValueError", std::string(where_) + ": " + std::string(name) + " has no memory behind it (a fake or meta tensor?)");
  }
  DLTensor as_given{};
  as_given.data = tensor.data_ptr();
  as_given.device = tensor.device();
  as_given.ndim = tensor.ndim();
  as_given.dtype = tensor.dtype();
  as_given.shape = const_cast<std::int64_t*>(tensor.shape().data());
  as_given.strides = tensor.numel() == 0 ? nullptr : const_cast<std::int64_t*>(tensor.strides().data());  // an empty NumPy array's say 0
  as_given.byte_offset = tensor.byte_offset();
  try {
    return TensorView::from_dlpack(as_given);
  } catch (const Error& error) {
    raise(python_kind(error.code()), std::string(where_) + ": " + std::string(name) + ": " + error.what());
  }
}

TensorView Arguments::tensor(const char* name) {
  const ffi::AnyView value = take();
  const std::optional<ffi::TensorView> tensor = value.try_cast<ffi::TensorView>();
  if (!tensor.has_value()) {
    wrong_type(name, "a tensor", value);
  }
  return view(name, *tensor);
}

TensorView Arguments::optional_tensor(const char* name) { return is_none() ? TensorView{} : tensor(name); }

TensorView Arguments::optional_lengths(const char* name) {
  if (is_none()) {
    return {};
  }
  if (args_[next_].type_index() != kTVMFFIArray) {
    return tensor(name);
  }
  const ffi::Array<ffi::Any> list = take().cast<ffi::Array<ffi::Any>>();
  std::vector<std::int32_t>& values = lists_.emplace_back();
  values.reserve(list.size() + 1);  // never a null pointer
  for (const ffi::Any& entry : list) {
    const std::optional<std::int64_t> number = entry.try_cast<std::int64_t>();
    if (!number.has_value() || *number != static_cast<std::int32_t>(*number)) {
      raise("TypeError", std::string(where_) + ": " + name + "[" + std::to_string(values.size()) + "] is no integer of 32 bits");
    }
    values.push_back(static_cast<std::int32_t>(*number));
  }
  return TensorView::contiguous(values.data(), DType::i32, {static_cast<std::int64_t>(values.size())});
}

Scale Arguments::scale(const char* name) {
  if (is_none()) {
    return {};
  }
  const int type = args_[next_].type_index();
  if (type == kTVMFFIFloat || type == kTVMFFIInt) {
    return static_cast<float>(number(name));
  }
  return tensor(name);
}

Value Arguments::value(std::string_view name) {
  const ffi::AnyView value = take();
  switch (value.type_index()) {
    case kTVMFFIInt:
    case kTVMFFIBool:
      return {name, value.cast<std::int64_t>()};
    case kTVMFFIFloat:
      return {name, value.cast<double>()};
    default:
      break;
  }
  const std::optional<ffi::TensorView> tensor = value.try_cast<ffi::TensorView>();
  if (!tensor.has_value()) {
    wrong_type(name, "a number or a tensor", value);
  }
  return {name, view(name, *tensor)};
}

Stream Arguments::stream(Device device) {
  if (!is_none()) {
    return {.handle = reinterpret_cast<void*>(integer("stream"))};
  }
  return {.handle = device.type == DeviceType::cuda ? TVMFFIEnvGetStream(kDLCUDA, device.id) : nullptr};
}

}  // namespace fovea::python
