// Variant: the attention rule, by name or as text, and the values of its parameters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fovea/tensor.h"

namespace fovea {

/// A variant's C++ text, compiled when prepare() first needs it.
struct VariantSource {
  std::string name;  // "my_cap"
  std::string text;  // defines `struct MyCap : VariantBase`
  std::string file;  // what compile errors name
  friend bool operator==(const VariantSource&, const VariantSource&) = default;
};

/// The attention rule: "full", "causal", "sliding_window", "soft_cap", "sink", "sigmoid", "custom_mask", or several joined by '+' in the
/// order in which they apply ("sliding_window+soft_cap": keeps are and-ed, logit transforms run left to right). Parts may be the caller's
/// own (docs/add-a-variant.md):
///
///   const Variant my_cap = Variant::from_source("my_cap", R"(
///     struct MyCap : VariantBase {
///       struct Params { float cap; FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap)) };
///       template <class T> FOVEA_FN T transform_logit(T logit, const Position<>&) const { return T(p.cap) * math::tanh(logit / T(p.cap));
///       } Params p;
///     };)");
///   spec.variant = "causal" + my_cap;
struct Variant {
  std::string name = "causal";
  std::vector<VariantSource> sources;  // of the parts that are not built in

  Variant() = default;
  Variant(std::string_view name) : name(name) {}  // NOLINT: implicit on purpose, spec.variant = "causal"
  Variant(const char* name) : name(name) {}       // NOLINT

  /// `name` in snake_case; `text` defines a struct of that name in PascalCase, as a file of variants/ does. Its own parameters are given by
  /// name like a built-in's. Compile errors name `file` (default: "<name>.h"). Reads and compiles nothing yet.
  static Variant from_source(std::string_view name, std::string_view text, std::string_view file = {});

  /// The text of a file; "path/my_cap.h" is named my_cap. Throws InvalidArgument when it can't be read.
  static Variant from_file(const std::string& path);

  /// The names between the '+': {"sliding_window", "soft_cap"}.
  std::vector<std::string> parts() const;

  friend Variant operator+(const Variant& first, const Variant& second);
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

/// A built-in variant as `fovea explain --variants` lists it.
struct VariantDescription {
  std::string name;
  std::vector<std::string> masks;   // what plan() takes
  std::vector<std::string> params;  // what run() takes
  std::string interval;             // "exact": empty and full tiles of a request are always found; "sound": mostly; "opaque": never
};

}  // namespace fovea
