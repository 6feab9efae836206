// fill_fields: named values into the bytes of a variant's Mask or Params.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "src/problem/problem.h"
#include "src/problem/tensor_check.h"

namespace fovea {
namespace {

struct FieldsCheck {
  std::string_view where, what;
  const VariantInfo& variant;
  const FieldList& fields;
  Device device;
};

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

/// Insertions, removals and changes of one character that lead from a to b.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

/// The known names, and the one the caller may have meant. Error path alone.
std::string known_names(const VariantInfo& variant, const FieldList& fields, std::string_view wrong) {
  if (fields.count == 0) {
    return "it has none";
  }
  std::string known = "known: ";
  std::string closest;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  for (std::int32_t i = 0; i < fields.count; ++i) {
    const Field& field = fields.fields[i];
    const bool shared = count_named(variant, fields, field.name) > 1;
    const std::string name = shared ? variant.parts[static_cast<std::size_t>(field.part)] + "." + field.name : field.name;
    known += (i > 0 ? ", " : "") + name;
    if (const std::size_t distance = edit_distance(wrong, name); distance < least) {
      least = distance;
      closest = name;
    }
  }
  return least <= 1 + wrong.size() / 3 ? fmt::format("{}; did you mean '{}'?", known, closest) : known;
}

std::int32_t find_field(const FieldsCheck& check, std::string_view name) {
  const FieldList& others = check.what == "mask" ? check.variant.param_fields : check.variant.mask_fields;
  std::int32_t found = -1;
  for (std::int32_t i = 0; i < check.fields.count; ++i) {
    if (!names_field(check.variant, check.fields.fields[i], name)) {
      continue;
    }
    FOVEA_CHECK(found < 0, "{}: {} '{}' of variant '{}' is a name of two parts; write '{}.{}' or '{}.{}'", check.where, check.what, name,
                check.variant.name, check.variant.parts[static_cast<std::size_t>(check.fields.fields[found].part)], name,
                check.variant.parts[static_cast<std::size_t>(check.fields.fields[i].part)], name);
    found = i;
  }
  if (found < 0) {
    FOVEA_CHECK(count_named(check.variant, others, name) == 0, "{}: '{}' is in the {} of variant '{}', not in its {}; give it to {}",
                check.where, name, check.what == "mask" ? "params" : "mask", check.variant.name, check.what,
                check.what == "mask" ? "run()" : "plan()");
    FOVEA_CHECK(false, "{}: variant '{}' has no {} named '{}'; {}", check.where, check.variant.name, check.what, name,
                known_names(check.variant, check.fields, name));
  }
  return found;
}

double number_of(const FieldsCheck& check, const Value& value) {
  FOVEA_CHECK(!std::holds_alternative<TensorView>(value.value), "{}: {} '{}' is a number but a tensor is given ({})", check.where,
              check.what, value.name, std::get<TensorView>(value.value).to_string());
  if (const std::int64_t* integer = std::get_if<std::int64_t>(&value.value)) {
    return static_cast<double>(*integer);
  }
  return std::get<double>(value.value);
}

float float_of(const FieldsCheck& check, const Value& value) {
  const double number = number_of(check, value);
  FOVEA_CHECK(std::isfinite(number) && std::abs(number) <= std::numeric_limits<float>::max(), "{}: {} '{}' = {}; it must be a finite float",
              check.where, check.what, value.name, number);
  return static_cast<float>(number);
}

std::int32_t int_of(const FieldsCheck& check, const Value& value) {
  const double number = number_of(check, value);
  FOVEA_CHECK(number == std::floor(number), "{}: {} '{}' = {}; it must be an integer", check.where, check.what, value.name, number);
  FOVEA_CHECK(std::abs(number) <= std::numeric_limits<std::int32_t>::max(), "{}: {} '{}' = {}; it must fit 32 bits", check.where,
              check.what, value.name, number);
  return static_cast<std::int32_t>(number);
}

const TensorView& tensor_of(const FieldsCheck& check, const Value& value, DType dtype) {
  const TensorView* tensor = std::get_if<TensorView>(&value.value);
  FOVEA_CHECK(tensor != nullptr, "{}: {} '{}' is a tensor of {} but a number is given", check.where, check.what, value.name,
              name_of(dtype));
  const Argument name{check.where, check.what, -1, value.name};
  check_any_vector(name, *tensor, dtype, check.device);
  return *tensor;
}

template <class T>
Table<T> table_of(const FieldsCheck& check, const Value& value, DType dtype) {
  const TensorView& tensor = tensor_of(check, value, dtype);
  FOVEA_CHECK(1 <= tensor.dim(0) && tensor.dim(0) <= std::numeric_limits<std::int32_t>::max(),
              "{}: {} '{}' has {} entries; a table has 1 to {}", check.where, check.what, value.name, tensor.dim(0),
              std::numeric_limits<std::int32_t>::max());
  return {tensor.as<const T>(), static_cast<std::int32_t>(tensor.dim(0))};
}

template <class T>
void store(std::byte* to, const T& value) {
  std::memcpy(to, &value, sizeof value);
}

void fill_field(const FieldsCheck& check, const Field& field, const Value& value, std::byte* to) {
  switch (field.type) {
    case FieldType::f32:
      return store(to, float_of(check, value));
    case FieldType::i32:
      return store(to, int_of(check, value));
    case FieldType::table_f32:
      return store(to, table_of<float>(check, value, DType::f32));
    case FieldType::table_i32:
      return store(to, table_of<std::int32_t>(check, value, DType::i32));
    case FieldType::bit_mask: {
      const TensorView& tensor = tensor_of(check, value, DType::u8);
      return store(to, BitMask{tensor.as<const std::uint8_t>(), tensor.dim(0)});
    }
  }
}

}  // namespace

void fill_fields(std::string_view where, std::string_view what, const VariantInfo& variant, const FieldList& fields, Values values,
                 Device device, void* out) {
  const FieldsCheck check{where, what, variant, fields, device};
  static_assert(kMaxFields <= 32, "one bit a field");
  std::uint32_t given = 0;
  for (const Value& value : values) {
    const std::int32_t i = find_field(check, value.name);
    FOVEA_CHECK((given >> i & 1u) == 0, "{}: {} '{}' is given twice", where, what, value.name);
    given |= 1u << i;
    fill_field(check, fields.fields[i], value, static_cast<std::byte*>(out) + fields.fields[i].offset);
  }
  for (std::int32_t i = 0; i < fields.count; ++i) {
    FOVEA_CHECK(!fields.fields[i].required || (given >> i & 1u) != 0, "{}: {} '{}' of variant '{}' is not given; it has no default", where,
                what, fields.fields[i].name, variant.name);
  }
}

}  // namespace fovea
