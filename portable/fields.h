// How a variant's Mask and Params describe themselves: name, type and offset of every field, read by the host to fill the struct from named
// values.
#pragma once

#include "portable/compat.h"
#include "portable/interval.h"
#include "portable/table.h"

namespace fovea {

enum class FieldType : uint8_t { f32, i32, table_f32, table_i32, table_2d_f32, table_2d_i32, bit_mask };

/// How many entries a table needs, so that one that is too short is refused instead of clamped.
enum class Extent : uint8_t {
  any,             // at least one
  qo_heads,        // num_qo_heads
  kv_heads,        // num_kv_heads
  requests,        // num_requests
  request_bounds,  // num_requests + 1
  rotary,          // of two dimensions: an even number of columns, at most head_dim_qk
};

struct Field {
  const char* name = nullptr;
  FieldType type = FieldType::f32;
  bool required = false;  // no default: plan() or run() must be given a value
  uint32_t offset = 0;
  int32_t part = 0;               // which variant of a composition it belongs to, in written order
  Extent extent = Extent::any;    // tables alone
  int32_t at_least = kLowestInt;  // i32 alone
  bool above_zero = false;        // f32 alone
};

inline constexpr int kMaxFields = 16;

struct FieldList {
  Field fields[kMaxFields] = {};
  int32_t count = 0;
  uint32_t struct_bytes = 0;
};

template <class T>
struct FieldTypeOf;
template <>
struct FieldTypeOf<float> {
  static constexpr FieldType value = FieldType::f32;
};
template <>
struct FieldTypeOf<int32_t> {
  static constexpr FieldType value = FieldType::i32;
};
template <>
struct FieldTypeOf<Table<float>> {
  static constexpr FieldType value = FieldType::table_f32;
};
template <>
struct FieldTypeOf<Table<int32_t>> {
  static constexpr FieldType value = FieldType::table_i32;
};
template <>
struct FieldTypeOf<Table2D<float>> {
  static constexpr FieldType value = FieldType::table_2d_f32;
};
template <>
struct FieldTypeOf<Table2D<int32_t>> {
  static constexpr FieldType value = FieldType::table_2d_i32;
};
template <>
struct FieldTypeOf<BitMask> {
  static constexpr FieldType value = FieldType::bit_mask;
};

template <class... Fields>
constexpr FieldList field_list(uint32_t struct_bytes, Fields... fields) {
  return FieldList{{fields...}, static_cast<int32_t>(sizeof...(fields)), struct_bytes};
}

/// Fields of a composition's struct: `first`'s, then `second`'s moved by `second_offset` bytes and `first_parts` parts.
constexpr FieldList joined_fields(const FieldList& first, const FieldList& second, uint32_t second_offset, int32_t first_parts,
                                  uint32_t struct_bytes) {
  FieldList both = first;
  for (int32_t i = 0; i < second.count; ++i) {
    Field field = second.fields[i];
    field.offset += second_offset;
    field.part += first_parts;
    both.fields[both.count++] = field;
  }
  both.struct_bytes = struct_bytes;
  return both;
}

/// FOVEA_FIELDS(Params, FOVEA_REQUIRED(cap), FOVEA_OPTIONAL(base)) as the last line of a Mask or Params struct.
#define FOVEA_FIELDS(Struct, ...) \
  using Self = Struct;            \
  static constexpr ::fovea::FieldList fields() { return ::fovea::field_list(sizeof(Self) __VA_OPT__(, ) __VA_ARGS__); }
#define FOVEA_REQUIRED(name) \
  ::fovea::Field { #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, true, FOVEA_OFFSETOF(Self, name) }
#define FOVEA_REQUIRED_TABLE(name, extent) \
  ::fovea::Field { #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, true, FOVEA_OFFSETOF(Self, name), 0, ::fovea::Extent::extent }
#define FOVEA_OPTIONAL_TABLE(name, extent) \
  ::fovea::Field { #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, false, FOVEA_OFFSETOF(Self, name), 0, ::fovea::Extent::extent }
#define FOVEA_REQUIRED_AT_LEAST(name, least)                                                                                   \
  ::fovea::Field {                                                                                                             \
    #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, true, FOVEA_OFFSETOF(Self, name), 0, ::fovea::Extent::any, least \
  }
#define FOVEA_OPTIONAL_AT_LEAST(name, least)                                                                                    \
  ::fovea::Field {                                                                                                              \
    #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, false, FOVEA_OFFSETOF(Self, name), 0, ::fovea::Extent::any, least \
  }
#define FOVEA_REQUIRED_ABOVE_ZERO(name)                                                                                  \
  ::fovea::Field {                                                                                                       \
    #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, true, FOVEA_OFFSETOF(Self, name), 0, ::fovea::Extent::any, \
        ::fovea::kLowestInt, true                                                                                        \
  }
#define FOVEA_OPTIONAL_ABOVE_ZERO(name)                                                                                   \
  ::fovea::Field {                                                                                                        \
    #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, false, FOVEA_OFFSETOF(Self, name), 0, ::fovea::Extent::any, \
        ::fovea::kLowestInt, true                                                                                         \
  }
#define FOVEA_OPTIONAL(name) \
  ::fovea::Field { #name, ::fovea::FieldTypeOf<decltype(Self::name)>::value, false, FOVEA_OFFSETOF(Self, name) }

}  // namespace fovea
