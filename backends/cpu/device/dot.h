// Scores of few rows: direct dot products of q rows with K rows. K is read once per four rows.
#pragma once

#include "backends/cpu/device/arithmetic.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// Rows of a kv tile for one head: row c is at rows[c] + offset bytes.
struct HeadRows {
  const void* const* rows;
  int64_t offset = 0;

  FOVEA_FN const char* row(int c) const { return static_cast<const char*>(rows[c]) + offset; }
};

/// Memory to ask for while rows are computed on, chunk after chunk in the order in which memory has them: `per_row` chunks of a row side by
/// side (the heads of a token), row after row, first those of `rows`, then those of `then`. A chunk is a row's bytes of one head.
///
/// Lines are asked for one or two at a time between the arithmetic: a burst fills the core's miss buffers, and everything waits for them
/// (notes.md of attention_simd has the figures).
struct AskAhead {
  const void* const* rows;
  const void* const* then;  // null: nothing more to ask for
  int32_t num_rows;         // left in `rows`
  int32_t per_row, chunk_bytes;
  int64_t offset;  // bytes from a row to its first chunk
  int32_t chunks_left = 0;
  uint64_t address = 0;

  /// Where the next chunk is: a number, not a pointer. Rows of columns that nobody sees are null, and asking for what is beside them does
  /// no harm.
  FOVEA_FN uint64_t next() {
    if (chunks_left == 0) {
      start_row();
    }
    --chunks_left;
    const uint64_t chunk = address;
    address += static_cast<uint64_t>(chunk_bytes);
    return chunk;
  }

 private:
  FOVEA_FN void start_row() {
    if (num_rows == 0 && then != nullptr) {
      rows = then;
      then = nullptr;
      num_rows = kAllRows;
    }
    if (num_rows > 0) {
      address = reinterpret_cast<uint64_t>(*rows++) + static_cast<uint64_t>(offset);
      --num_rows;
    }
    chunks_left = per_row;
  }
  static constexpr int32_t kAllRows = 1 << 30;
};

FOVEA_FN void ask_for(uint64_t address) { _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T0); }
FOVEA_FN void ask_second_level_for(uint64_t address) { _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T1); }

/// scores[r * score_stride + c] = q row r . K row c, for columns [column_begin, column_end).
struct DotArgs {
  const void* q;  // [rows, q_stride] of the arithmetic's elements; rows zero-padded to whole vectors
  int32_t q_stride, rows;
  HeadRows k;
  int32_t column_begin, column_end;  // a multiple of 4 apart
  int32_t head_dim;
  float* scores;  // [rows, score_stride]
  int32_t score_stride;
  AskAhead* ahead;              // null: nothing; one chunk is asked for per column
  AskAhead* further = nullptr;  // the same for the second-level cache; only beside `ahead`
};

/// R rows by C columns from row `r`, column `c` on.
template <class A, int R, int C>
FOVEA_FN void dot_cell(const DotArgs& args, int r, int c) {
  Vec sums[R][C];
  for (int i = 0; i < R; ++i) {
    for (int j = 0; j < C; ++j) {
      sums[i][j] = zero();
    }
  }
  const auto* q = static_cast<const typename A::Element*>(args.q) + static_cast<int64_t>(r) * args.q_stride;
  const char* k[C];
  for (int j = 0; j < C; ++j) {
    k[j] = args.k.row(c + j);
  }
  const bool asks = r == 0 && args.ahead != nullptr;
  const bool asks_further = asks && args.further != nullptr;
  uint64_t next[C], further[C];
  for (int j = 0; j < C; ++j) {
    next[j] = asks ? args.ahead->next() : 0;
    further[j] = asks_further ? args.further->next() : 0;
  }
  constexpr int kElementBytes = kBytes<A::kDType>;
  constexpr int kStepsPerLine = max_(1, 64 / (A::kStep * kElementBytes));
  const int whole = args.head_dim / A::kStep * A::kStep;
  for (int d = 0, step = 0; d < whole; d += A::kStep, ++step) {
    for (int j = 0; j < C; ++j) {
      if (asks && j * kStepsPerLine / C == step % kStepsPerLine) {
        ask_for(next[j] + static_cast<uint64_t>(d * kElementBytes));
        if (asks_further) {
          ask_second_level_for(further[j] + static_cast<uint64_t>(d * kElementBytes));
        }
      }
    }
    Vec keys[C];
    for (int j = 0; j < C; ++j) {
      keys[j] = A::load(k[j] + d * kElementBytes);
    }
    for (int i = 0; i < R; ++i) {
      const Vec query = A::load_own(q + i * args.q_stride + d);
      for (int j = 0; j < C; ++j) {
        sums[i][j] = A::multiply_add(query, keys[j], sums[i][j]);
      }
    }
  }
  if (whole < args.head_dim) {
    for (int j = 0; j < C; ++j) {
      const Vec key = A::load_first(k[j] + whole * kElementBytes, args.head_dim - whole);
      for (int i = 0; i < R; ++i) {
        sums[i][j] = A::multiply_add(A::load_own(q + i * args.q_stride + whole), key, sums[i][j]);
      }
    }
  }
  for (int i = 0; i < R; ++i) {
    float* out = args.scores + static_cast<int64_t>(r + i) * args.score_stride + c;
    for (int j = 0; j < C; j += 4) {
      _mm_storeu_ps(out + j, reduce_add(sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]));
    }
  }
}

template <class A, int C>
FOVEA_FN void dot_columns(const DotArgs& args, int c) {
  // Four rows by four columns fill the accumulators of both instruction sets' latency; AVX2 spills a little there, and two rows fit.
  constexpr int kRows = kLanes == 16 ? 4 : 2;
  int r = 0;
  for (; r + kRows <= args.rows; r += kRows) {
    dot_cell<A, kRows, C>(args, r, c);
  }
  if constexpr (kRows == 4) {
    if (r + 2 <= args.rows) {
      dot_cell<A, 2, C>(args, r, c);
      r += 2;
    }
  }
  if (r < args.rows) {
    dot_cell<A, 1, C>(args, r, c);
  }
}

template <class A>
void dot_rows(const DotArgs& args) {
  int c = args.column_begin;
  if (args.rows == 1) {
    for (; c + 8 <= args.column_end; c += 8) {
      dot_cell<A, 1, 8>(args, 0, c);
    }
  }
  for (; c < args.column_end; c += 4) {
    dot_columns<A, 4>(args, c);
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
