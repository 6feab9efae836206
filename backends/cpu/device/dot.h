// Scores of few rows: direct dot products of q rows with K rows, converted as they are loaded. K is read once per four rows.
#pragma once

#include "backends/cpu/device/vector.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// Rows of a kv tile for one head: row c is at rows[c] + offset bytes.
struct HeadRows {
  const void* const* rows;
  int64_t offset = 0;

  FOVEA_FN const char* row(int c) const { return static_cast<const char*>(rows[c]) + offset; }
};

/// Memory to ask for while rows are computed on: as many chunks of a row's bytes as there are rows, in the order in which memory has them.
/// Chunk i of a computation is chunk `first` + i of the rows, of which each has `per_row` side by side: the heads of a token.
///
/// Lines are asked for one or two at a time between the arithmetic: a burst fills the core's miss buffers, and everything waits for them
/// (notes.md of attention_simd has the figures).
struct AskAhead {
  const void* const* rows = nullptr;  // null: nothing to ask for
  int64_t offset = 0;                 // bytes from there to the first chunk
  int32_t first = 0, per_row = 1;
  int32_t chunk_bytes = 0;
  uint32_t inverse = 1u << 16;  // 2^16 / per_row, rounded up: exact for the few hundred chunks of a tile

  /// A number, not a pointer: rows of columns that nobody sees are null, and asking for what is beside them does no harm.
  FOVEA_FN uint64_t chunk(int i) const {
    const int32_t place = first + i;
    const int32_t row = static_cast<int32_t>(static_cast<uint32_t>(place) * inverse >> 16);
    return reinterpret_cast<uint64_t>(rows[row]) + static_cast<uint64_t>(offset) +
           static_cast<uint64_t>(place - row * per_row) * static_cast<uint64_t>(chunk_bytes);
  }
};

FOVEA_FN void ask_for(uint64_t address) { _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T0); }

/// scores[r * score_stride + c] = q row r . K row c.  Rows of q are zero-padded to whole vectors.
struct DotArgs {
  const float* q;  // [rows, q_stride]
  int32_t q_stride, rows;
  HeadRows k;
  int32_t columns;  // a multiple of 4
  int32_t head_dim;
  float* scores;  // [rows, score_stride]
  int32_t score_stride;
  AskAhead ahead;
};

/// R rows by C columns from row `r`, column `c` on.
template <DType D, int R, int C>
FOVEA_FN void dot_cell(const DotArgs& args, int r, int c) {
  Vec sums[R][C];
  for (int i = 0; i < R; ++i) {
    for (int j = 0; j < C; ++j) {
      sums[i][j] = zero();
    }
  }
  const float* q = args.q + static_cast<int64_t>(r) * args.q_stride;
  const char* k[C];
  for (int j = 0; j < C; ++j) {
    k[j] = args.k.row(c + j);
  }
  const bool asks = r == 0 && args.ahead.rows != nullptr;
  uint64_t next[C];
  for (int j = 0; j < C; ++j) {
    next[j] = asks ? args.ahead.chunk(c + j) : 0;
  }
  const int whole = args.head_dim / kLanes * kLanes;
  constexpr int kStepsPerLine = max_(1, 64 / (kLanes * kBytes<D>));
  for (int d = 0, step = 0; d < whole; d += kLanes, ++step) {
    for (int j = 0; j < C; ++j) {
      if (asks && j * kStepsPerLine / C == step % kStepsPerLine) {
        ask_for(next[j] + static_cast<uint64_t>(d * kBytes<D>));
      }
    }
    Vec keys[C];
    for (int j = 0; j < C; ++j) {
      keys[j] = load_as<D>(k[j] + d * kBytes<D>);
    }
    for (int i = 0; i < R; ++i) {
      const Vec query = load(q + i * args.q_stride + d);
      for (int j = 0; j < C; ++j) {
        sums[i][j] = multiply_add(query, keys[j], sums[i][j]);
      }
    }
  }
  if (whole < args.head_dim) {
    for (int j = 0; j < C; ++j) {
      const Vec key = load_first_as<D>(k[j] + whole * kBytes<D>, args.head_dim - whole);
      for (int i = 0; i < R; ++i) {
        sums[i][j] = multiply_add(load(q + i * args.q_stride + whole), key, sums[i][j]);
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

template <DType D, int C>
FOVEA_FN void dot_columns(const DotArgs& args, int c) {
  // Four rows by four columns fill the accumulators of both instruction sets' latency; AVX2 spills a little there, and two rows fit.
  constexpr int kRows = kLanes == 16 ? 4 : 2;
  int r = 0;
  for (; r + kRows <= args.rows; r += kRows) {
    dot_cell<D, kRows, C>(args, r, c);
  }
  if constexpr (kRows == 4) {
    if (r + 2 <= args.rows) {
      dot_cell<D, 2, C>(args, r, c);
      r += 2;
    }
  }
  if (r < args.rows) {
    dot_cell<D, 1, C>(args, r, c);
  }
}

template <DType D>
void dot_rows(const DotArgs& args) {
  for (int c = 0; c < args.columns; c += 4) {
    dot_columns<D, 4>(args, c);
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
