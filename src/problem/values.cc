// fill_fields: named values into the bytes of a variant's Mask or Params.
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "src/problem/problem.h"
#include "src/problem/tensor_check.h"
#include "src/support/spelling.h"

namespace fovea {
namespace {

/// `name` is the field's own name, or "part.name".
bool names_field(const VariantInfo& variant, const Field& field, std::string_view name) {
  const std::string_view own = field.name;
  if (name == own) {
    return true;
  }
  const std::string_view part = variant.parts[static_cast<std::size_t>(field.part)];
  return name.size() == part.size() + 1 + own.size() && name.starts_with(part) && name[part.size()] == '.' && name.ends_with(own);
}

std::int32_t count_named(const VariantInfo& variant, const FieldList& fields, std::string_view name) {
  std::int32_t count = 0;
  for (std::int32_t i = 0; i < fields.count; ++i) {
    count += names_field(variant, fields.fields[i], name) ? 1 : 0;
  }
  return count;
}

/// The known names, and the one the caller may have meant. Error path alone.
std::string known_names(const VariantInfo& variant, const FieldList& fields, std::string_view wrong) {
  if (fields.count == 0) {
    return "it has none";
  }
  std::string known = "known: ";
  std::vector<std::string> names;
  for (std::int32_t i = 0; i < fields.count; ++i) {
    const Field& field = fields.fields[i];
    const bool shared = count_named(variant, fields, field.name) > 1;
    const std::string name = shared ? variant.parts[static_cast<std::size_t>(field.part)] + "." + field.name : field.name;
    known += (i > 0 ? ", " : "") + name;
    names.push_back(name);
  }
  const std::string closest = closest_name(wrong, names);
  return closest.empty() ? known : fmt::format("{}; did you mean '{}'?", known, closest);
}

std::int32_t find_field(const FieldsTarget& target, std::string_view name) {
  const FieldList& others = target.what == "mask" ? target.variant.param_fields : target.variant.mask_fields;
  std::int32_t found = -1;
  for (std::int32_t i = 0; i < target.fields().count; ++i) {
    if (!names_field(target.variant, target.fields().fields[i], name)) {
      continue;
    }
    FOVEA_CHECK(found < 0, "{}: {} '{}' of variant '{}' is a name of two parts; write '{}.{}' or '{}.{}'", target.where, target.what, name,
                target.variant.name, target.variant.parts[static_cast<std::size_t>(target.fields().fields[found].part)], name,
                target.variant.parts[static_cast<std::size_t>(target.fields().fields[i].part)], name);
    found = i;
  }
  if (found < 0) {
    FOVEA_CHECK(count_named(target.variant, others, name) == 0, "{}: '{}' is in the {} of variant '{}', not in its {}; give it to {}",
                target.where, name, target.what == "mask" ? "params" : "mask", target.variant.name, target.what,
                target.what == "mask" ? "run()" : "plan()");
    FOVEA_CHECK(false, "{}: variant '{}' has no {} named '{}'; {}", target.where, target.variant.name, target.what, name,
                known_names(target.variant, target.fields(), name));
  }
  return found;
}

double number_of(const FieldsTarget& target, const Value& value) {
  FOVEA_CHECK(!std::holds_alternative<TensorView>(value.value), "{}: {} '{}' is a number but a tensor is given ({})", target.where,
              target.what, value.name, std::get<TensorView>(value.value).to_string());
  if (const std::int64_t* integer = std::get_if<std::int64_t>(&value.value)) {
    return static_cast<double>(*integer);
  }
  return std::get<double>(value.value);
}

float float_of(const FieldsTarget& target, const Field& field, const Value& value) {
  const double number = number_of(target, value);
  FOVEA_CHECK(std::isfinite(number) && std::abs(number) <= std::numeric_limits<float>::max(), "{}: {} '{}' = {}; it must be a finite float",
              target.where, target.what, value.name, number);
  FOVEA_CHECK(!field.above_zero || static_cast<float>(number) > 0.0f, "{}: {} '{}' = {}; it must be above 0", target.where, target.what,
              value.name, number);
  return static_cast<float>(number);
}

std::int32_t int_of(const FieldsTarget& target, const Field& field, const Value& value) {
  const double number = number_of(target, value);
  FOVEA_CHECK(number == std::floor(number), "{}: {} '{}' = {}; it must be an integer", target.where, target.what, value.name, number);
  FOVEA_CHECK(std::abs(number) <= std::numeric_limits<std::int32_t>::max(), "{}: {} '{}' = {}; it must fit 32 bits", target.where,
              target.what, value.name, number);
  FOVEA_CHECK(number >= field.at_least, "{}: {} '{}' = {}; it must be at least {}", target.where, target.what, value.name, number,
              field.at_least);
  return static_cast<std::int32_t>(number);
}

const TensorView& tensor_of(const FieldsTarget& target, const Value& value, DType dtype) {
  const TensorView* tensor = std::get_if<TensorView>(&value.value);
  FOVEA_CHECK(tensor != nullptr, "{}: {} '{}' is a tensor of {} but a number is given", target.where, target.what, value.name,
              name_of(dtype));
  const Argument name{target.where, target.what, -1, value.name};
  check_any_vector(name, *tensor, dtype, target.device);
  return *tensor;
}

std::int64_t entries_needed(const FieldsTarget& target, Extent extent) {
  switch (extent) {
    case Extent::any:
      return 1;
    case Extent::qo_heads:
      return target.num_qo_heads;
    case Extent::kv_heads:
      return target.num_kv_heads;
    case Extent::requests:
      return target.num_requests;
    case Extent::request_bounds:
      return std::int64_t{target.num_requests} + 1;
    case Extent::rotary:
      return 1;
  }
  return 1;
}

const char* name_of(Extent extent) {
  switch (extent) {
    case Extent::any:
      return "an entry";
    case Extent::qo_heads:
      return "num_qo_heads";
    case Extent::kv_heads:
      return "num_kv_heads";
    case Extent::requests:
      return "num_requests";
    case Extent::request_bounds:
      return "num_requests + 1";
    case Extent::rotary:
      return "an entry";
  }
  return "";
}

template <class T>
Table<T> table_of(const FieldsTarget& target, const Field& field, const Value& value, DType dtype) {
  const TensorView& tensor = tensor_of(target, value, dtype);
  FOVEA_CHECK(1 <= tensor.dim(0) && tensor.dim(0) <= std::numeric_limits<std::int32_t>::max(),
              "{}: {} '{}' has {} entries; a table has 1 to {}", target.where, target.what, value.name, tensor.dim(0),
              std::numeric_limits<std::int32_t>::max());
  FOVEA_CHECK(tensor.dim(0) >= entries_needed(target, field.extent), "{}: {} '{}' has {} entries; it needs {} = {}", target.where,
              target.what, value.name, tensor.dim(0), name_of(field.extent), entries_needed(target, field.extent));
  return {tensor.as<const T>(), static_cast<std::int32_t>(tensor.dim(0))};
}

template <class T>
Table2D<T> table_2d_of(const FieldsTarget& target, const Field& field, const Value& value, DType dtype) {
  const TensorView* tensor = std::get_if<TensorView>(&value.value);
  FOVEA_CHECK(tensor != nullptr, "{}: {} '{}' is a tensor of {} with two dimensions but a number is given", target.where, target.what,
              value.name, name_of(dtype));
  const Argument name{target.where, target.what, -1, value.name};
  check_tensor(name, *tensor, 2, "two axes", target.device);
  check_dtype(name, *tensor, dtype);
  check_innermost(name, *tensor);
  const std::int64_t most = std::numeric_limits<std::int32_t>::max();
  FOVEA_CHECK(1 <= tensor->dim(0) && tensor->dim(0) <= most && 1 <= tensor->dim(1) && tensor->dim(1) <= most,
              "{}: {} '{}' has {} x {} entries; a table has 1 to {} each way", target.where, target.what, value.name, tensor->dim(0),
              tensor->dim(1), most);
  FOVEA_CHECK(field.extent != Extent::rotary || (tensor->dim(1) % 2 == 0 && tensor->dim(1) <= target.head_dim_qk),
              "{}: {} '{}' has {} columns; it needs an even number, at most head_dim_qk = {}", target.where, target.what, value.name,
              tensor->dim(1), target.head_dim_qk);
  return {.data = tensor->as<const T>(),
          .rows = static_cast<std::int32_t>(tensor->dim(0)),
          .cols = static_cast<std::int32_t>(tensor->dim(1)),
          .row_stride = tensor->stride(0)};
}

template <class T>
void store(std::byte* to, const T& value) {
  std::memcpy(to, &value, sizeof value);
}

void fill_field(const FieldsTarget& target, const Field& field, const Value& value, std::byte* to) {
  switch (field.type) {
    case FieldType::f32:
      return store(to, float_of(target, field, value));
    case FieldType::i32:
      return store(to, int_of(target, field, value));
    case FieldType::table_f32:
      return store(to, table_of<float>(target, field, value, DType::f32));
    case FieldType::table_i32:
      return store(to, table_of<std::int32_t>(target, field, value, DType::i32));
    case FieldType::table_2d_f32:
      return store(to, table_2d_of<float>(target, field, value, DType::f32));
    case FieldType::table_2d_i32:
      return store(to, table_2d_of<std::int32_t>(target, field, value, DType::i32));
    case FieldType::bit_mask: {
      const TensorView& tensor = tensor_of(target, value, DType::u8);
      return store(to, BitMask{tensor.as<const std::uint8_t>(), tensor.dim(0)});
    }
  }
}

}  // namespace

void fill_fields(const FieldsTarget& target, Values values, void* out) {
  const FieldList& fields = target.fields();
  static_assert(kMaxFields <= 32, "one bit a field");
  std::uint32_t given = 0;
  for (const Value& value : values) {
    const std::int32_t i = find_field(target, value.name);
    FOVEA_CHECK((given >> i & 1u) == 0, "{}: {} '{}' is given twice", target.where, target.what, value.name);
    given |= 1u << i;
    fill_field(target, fields.fields[i], value, static_cast<std::byte*>(out) + fields.fields[i].offset);
  }
  for (std::int32_t i = 0; i < fields.count; ++i) {
    FOVEA_CHECK(!fields.fields[i].required || (given >> i & 1u) != 0, "{}: {} '{}' of variant '{}' is not given; it has no default",
                target.where, target.what, fields.fields[i].name, target.variant.name);
  }
}

}  // namespace fovea
