// Lookups a variant may make: tables of numbers and packed mask bits. Out-of-range indices clamp, so that a lookup is always inside its
// memory. Looked up by an interval, a table says what lies between its bounds by reading it: exact, and never older than the table.
#pragma once

#include "portable/compat.h"
#include "portable/interval.h"

namespace fovea {

/// table[i], i clamped to [0, size). An empty table reads as 0.
template <class T>
struct Table {
  const T* data = nullptr;
  int32_t size = 0;

  FOVEA_FN T operator[](int32_t i) const { return size > 0 ? data[clamped(i)] : T(0); }

  /// Lowest and highest of table[i.lo .. i.hi]. Only integers have intervals.
  FOVEA_FN Interval operator[](Interval i) const
    requires(kSame<T, int32_t>)
  {
    if (size <= 0) {
      return 0;
    }
    const int32_t end = clamped(i.hi) + 1;
    int32_t lo = data[clamped(i.lo)], hi = lo;
    for (int32_t n = clamped(i.lo) + 1; n < end; ++n) {
      lo = min_(lo, data[n]);
      hi = max_(hi, data[n]);
    }
    return {lo, hi};
  }

 private:
  FOVEA_FN int32_t clamped(int32_t i) const { return max_(0, min_(i, size - 1)); }
};

/// table(row, col), each clamped. An empty table reads as 0.
template <class T>
struct Table2D {
  const T* data = nullptr;
  int32_t rows = 0, cols = 0;
  int64_t row_stride = 0;

  FOVEA_FN bool empty() const { return rows <= 0 || cols <= 0; }
  /// Where the `cols` entries of a row begin, the row clamped; for loops over columns, of tables that aren't empty.
  FOVEA_FN const T* row(int32_t row) const { return data + clamped(row, rows) * row_stride; }
  FOVEA_FN T operator()(int32_t row, int32_t col) const {
    return empty() ? T(0) : data[clamped(row, rows) * row_stride + clamped(col, cols)];
  }
  FOVEA_FN Interval operator()(Interval row, Interval col) const
    requires(kSame<T, int32_t>)
  {
    const int32_t last = clamped(row.hi, rows);
    Interval all = row_of(clamped(row.lo, rows))[col];
    for (int32_t r = clamped(row.lo, rows) + 1; r <= last; ++r) {
      all = hull(all, row_of(r)[col]);
    }
    return all;
  }

 private:
  FOVEA_FN static int32_t clamped(int32_t i, int32_t count) { return max_(0, min_(i, count - 1)); }
  FOVEA_FN Table<T> row_of(int32_t row) const { return empty() ? Table<T>{} : Table<T>{data + row * row_stride, cols}; }
};

/// Packed bits, least significant first; bit i of byte b is mask entry 8 * b + i. Entries outside read as 0.
struct BitMask {
  const uint8_t* bits = nullptr;
  int64_t num_bytes = 0;

  FOVEA_FN bool test(int64_t index) const {
    const int64_t byte = index >> 3;
    return byte >= 0 && byte < num_bytes && ((bits[byte] >> (index & 7)) & 1) != 0;
  }
  /// Entry (row, col) of a row-major matrix of `cols` columns whose bits begin at byte `first_byte`.
  FOVEA_FN bool test(int32_t first_byte, int32_t cols, int32_t row, int32_t col) const {
    return row >= 0 && col >= 0 && col < cols && test(int64_t{first_byte} * 8 + int64_t{row} * cols + col);
  }
  /// All entries of a rectangle of one matrix; rectangles of several matrices at once are mixed, unread.
  FOVEA_FN Tri test(Interval first_byte, Interval cols, Interval row, Interval col) const {
    if (!first_byte.single() || !cols.single()) {
      return {true, false};
    }
    const int32_t lo = max_(col.lo, 0), hi = min_(col.hi, cols.lo - 1);
    bool any = false;
    bool all = row.lo >= 0 && lo == col.lo && hi == col.hi;
    for (int32_t r = max_(row.lo, 0); r <= row.hi && lo <= hi && !(any && !all); ++r) {
      const int64_t begin = int64_t{first_byte.lo} * 8 + int64_t{r} * cols.lo;
      const Tri in_row = test_run(begin + lo, begin + hi + 1);
      any |= in_row.may;
      all &= in_row.must;
    }
    return {any, any && all};
  }

 private:
  /// Entries [begin, end), byte by byte.
  FOVEA_FN Tri test_run(int64_t begin, int64_t end) const {
    bool any = false, all = true;
    for (int64_t byte = begin >> 3; byte * 8 < end; ++byte) {
      const int32_t first = byte * 8 < begin ? static_cast<int32_t>(begin & 7) : 0;
      const int32_t last = byte * 8 + 8 > end ? static_cast<int32_t>(end & 7) : 8;
      const uint32_t wanted = ((1u << last) - 1u) & ~((1u << first) - 1u);
      const uint32_t found = byte >= 0 && byte < num_bytes ? bits[byte] & wanted : 0u;
      any |= found != 0;
      all &= found == wanted;
    }
    return {any, all};
  }
};

}  // namespace fovea
