// Variant: the attention rule by name, and the values of its parameters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "fovea/tensor.h"

namespace fovea {

/// The attention rule: "full", "causal", "sliding_window", "soft_cap", "sink", "sigmoid", "custom_mask", or several joined by '+' in the
/// order in which they apply ("sliding_window+soft_cap": keeps are and-ed, logit transforms run left to right).
struct Variant {
  std::string name = "causal";

  Variant() = default;
  Variant(std::string_view name) : name(name) {}  // NOLINT: implicit on purpose, spec.variant = "causal"
  Variant(const char* name) : name(name) {}       // NOLINT
  friend bool operator==(const Variant&, const Variant&) = default;
};

/// One named parameter of a variant: a number, or a tensor for parameters that are tables (per-head sinks, mask bits).
/// Names are those of the variant's file; with a composition, a name that two parts share is written "part.name".
struct Value {
  std::string_view name;
  std::variant<double, std::int64_t, TensorView> value;

  Value(std::string_view name, double number) : name(name), value(number) {}
  Value(std::string_view name, float number) : name(name), value(static_cast<double>(number)) {}
  Value(std::string_view name, std::int32_t number) : name(name), value(static_cast<std::int64_t>(number)) {}
  Value(std::string_view name, std::int64_t number) : name(name), value(number) {}
  Value(std::string_view name, const TensorView& tensor) : name(name), value(tensor) {}
};

using Values = std::span<const Value>;

}  // namespace fovea
