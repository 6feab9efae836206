// Element types: one row each. Enumerators, names, DLPack codes, sizes and test matrices expand from the table.
// No includes: device code reads this file too.
#pragma once

namespace fovea {

/// X(name, bits, block_size, scale_dtype, dlpack_code, is_float)
/// `bits` is the storage size of one element; `block_size` elements share a scale inside the storage format itself (1: none do);
/// `scale_dtype` is the dtype of the scales that dequantise the type. `dlpack_code` is DLDataTypeCode of DLPack 1.1 and newer.
#define FOVEA_DTYPES(X)        \
  X(f32, 32, 1, f32, 2, true)  \
  X(f16, 16, 1, f32, 2, true)  \
  X(bf16, 16, 1, f32, 4, true) \
  X(e4m3, 8, 1, f32, 10, true) \
  X(e5m2, 8, 1, f32, 12, true) \
  X(i32, 32, 1, i32, 0, false) \
  X(i64, 64, 1, i64, 0, false) \
  X(u8, 8, 1, u8, 1, false)

enum class DType : unsigned char {
#define FOVEA_DTYPE_ENUMERATOR(name, ...) name,
  FOVEA_DTYPES(FOVEA_DTYPE_ENUMERATOR)
#undef FOVEA_DTYPE_ENUMERATOR
};

struct DTypeRow {
  const char* name;
  int bits;
  int block_size;     // elements that share one scale inside the format; 1 for plain types
  DType scale_dtype;  // dtype of dequantisation scales
  unsigned char dlpack_code;
  bool is_float;
};

inline constexpr DTypeRow kDTypeTable[] = {
#define FOVEA_DTYPE_ROW(name, bits, block_size, scale, code, is_float) {#name, bits, block_size, DType::scale, code, is_float},
    FOVEA_DTYPES(FOVEA_DTYPE_ROW)
#undef FOVEA_DTYPE_ROW
};

inline constexpr int kNumDTypes = sizeof(kDTypeTable) / sizeof(kDTypeTable[0]);

constexpr const DTypeRow& row_of(DType dtype) { return kDTypeTable[static_cast<int>(dtype)]; }
constexpr const char* name_of(DType dtype) { return row_of(dtype).name; }
constexpr bool is_float(DType dtype) { return row_of(dtype).is_float; }

/// Bytes that `count` adjacent elements occupy; `count` must fill whole bytes.
constexpr long long bytes_of(DType dtype, long long count) { return count * row_of(dtype).bits / 8; }

}  // namespace fovea
