// Errors that leave the library. Text: `where: what is wrong (values); rule; hint`.
#pragma once

#include <stdexcept>
#include <string>

namespace fovea {

enum class ErrorCode {
  invalid_argument,  // the caller's values break a rule; nothing was written
  unsupported,       // valid, but no kernel or backend here can do it; the text lists who refused and why
  compile_failed,    // a variant does not compile
  device_failed,     // a device call or allocation failed
  internal,          // a bug in fovea; please report it
};

/// Base of all errors thrown by fovea. After one, every object is as it was before the call and the next call works.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

template <ErrorCode Code>
class ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(Code, message) {}
};

using InvalidArgument = ErrorOf<ErrorCode::invalid_argument>;
using Unsupported = ErrorOf<ErrorCode::unsupported>;
using CompileFailed = ErrorOf<ErrorCode::compile_failed>;
using DeviceFailed = ErrorOf<ErrorCode::device_failed>;
using InternalError = ErrorOf<ErrorCode::internal>;

}  // namespace fovea
