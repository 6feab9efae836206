// Weighted sums of V rows for few rows: o += p . V, V converted as it is loaded and read once per four rows.
#pragma once

#include "backends/cpu/device/dot.h"
#include "backends/cpu/device/vector.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// o[r * o_stride + d] += sum over columns of weights[r * weight_stride + c] * V row c [d], columns in order: an element's sum never
/// depends on the other rows.
struct AccumulateArgs {
  const float* weights;  // [rows, weight_stride]
  int32_t weight_stride, rows;
  HeadRows v;
  int32_t column_begin, column_end;
  int32_t head_dim;
  float* o;  // [rows, o_stride], rows padded to whole vectors
  int32_t o_stride;
  AskAhead ahead;
};

/// R rows by N vectors from row `r`, element `d` on. `Tail`: only the first `last` lanes of the only vector exist in V.
template <DType D, int R, int N, bool Tail>
FOVEA_FN void accumulate_cell(const AccumulateArgs& args, int r, int d, int last, bool asks) {
  Vec sums[R][N];
  float* o = args.o + static_cast<int64_t>(r) * args.o_stride + d;
  for (int i = 0; i < R; ++i) {
    for (int n = 0; n < N; ++n) {
      sums[i][n] = load(o + i * args.o_stride + n * kLanes);
    }
  }
  const float* weights = args.weights + static_cast<int64_t>(r) * args.weight_stride;
  for (int c = args.column_begin; c < args.column_end; ++c) {
    if (asks) {
      const uint64_t next = args.ahead.chunk(c) + static_cast<uint64_t>(d * kBytes<D>);
      for (int offset = 0; offset < N * kLanes * kBytes<D>; offset += 64) {
        ask_for(next + static_cast<uint64_t>(offset));
      }
    }
    const char* row = args.v.row(c) + d * kBytes<D>;
    Vec values[N];
    for (int n = 0; n < N; ++n) {
      values[n] = Tail ? load_first_as<D>(row, last) : load_as<D>(row + n * kLanes * kBytes<D>);
    }
    for (int i = 0; i < R; ++i) {
      const Vec weight = broadcast(weights[i * args.weight_stride + c]);
      for (int n = 0; n < N; ++n) {
        sums[i][n] = multiply_add(weight, values[n], sums[i][n]);
      }
    }
  }
  for (int i = 0; i < R; ++i) {
    for (int n = 0; n < N; ++n) {
      store(o + i * args.o_stride + n * kLanes, sums[i][n]);
    }
  }
}

template <DType D, int R, int N>
FOVEA_FN void accumulate_row_cells(const AccumulateArgs& args, int r) {
  const int dim = args.head_dim;
  int d = 0;
  for (; d + N * kLanes <= dim; d += N * kLanes) {
    accumulate_cell<D, R, N, false>(args, r, d, 0, r == 0 && args.ahead.rows != nullptr);
  }
  for (; d + kLanes <= dim; d += kLanes) {
    accumulate_cell<D, R, 1, false>(args, r, d, 0, r == 0 && args.ahead.rows != nullptr);
  }
  if (d < dim) {
    accumulate_cell<D, R, 1, true>(args, r, d, dim - d, r == 0 && args.ahead.rows != nullptr);
  }
}

template <DType D>
void accumulate_rows(const AccumulateArgs& args) {
  constexpr int kWide = kLanes == 16 ? 8 : 4;  // vectors of one row
  constexpr int kNarrow = kLanes == 16 ? 4 : 2;
  int r = 0;
  for (; r + 4 <= args.rows; r += 4) {
    accumulate_row_cells<D, 4, kNarrow>(args, r);
  }
  if (r + 2 <= args.rows) {
    accumulate_row_cells<D, 2, kWide>(args, r);
    r += 2;
  }
  if (r < args.rows) {
    accumulate_row_cells<D, 1, kWide>(args, r);
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
