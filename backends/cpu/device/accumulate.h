// Weighted sums of V rows for few rows: o += p . V. V is read once per four rows.
#pragma once

#include "backends/cpu/device/arithmetic.h"
#include "backends/cpu/device/dot.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// o[r * o_stride + d] += sum over columns of weights[r * weight_stride + c] * V row c [d], columns in order: an element's sum never
/// depends on the other rows. Dimensions are in the arithmetic's order, panel by panel.
struct AccumulateArgs {
  const void* weights;  // [rows, weight_stride] of the arithmetic's elements
  int32_t weight_stride, rows;
  HeadRows v;
  int32_t column_begin, column_end;  // multiples of the arithmetic's columns in a word
  int32_t head_dim;
  float* o;  // [rows, o_stride], rows padded to whole panels
  int32_t o_stride;
  AskAhead* ahead;              // null: nothing; one chunk is asked for per column
  AskAhead* further = nullptr;  // the same for the second-level cache; only beside `ahead`
};

/// R rows by N panels from row `r`, element `d` on. `Tail`: only the first `last` dimensions of the only panel exist in V.
template <class A, int R, int N, bool Tail>
FOVEA_FN void accumulate_cell(const AccumulateArgs& args, int r, int d, int last) {
  Vec sums[R][2 * N];
  float* o = args.o + static_cast<int64_t>(r) * args.o_stride + d;
  for (int i = 0; i < R; ++i) {
    for (int n = 0; n < 2 * N; ++n) {
      sums[i][n] = load(o + i * args.o_stride + n * kLanes);
    }
  }
  const bool asks = r == 0 && d == 0 && args.ahead != nullptr;
  const bool asks_further = asks && args.further != nullptr;
  const int chunk_bytes = asks ? args.ahead->chunk_bytes : 0;
  const int offset = d * kBytes<A::kDType>;
  constexpr int kPanelBytes = kPanel * kBytes<A::kDType>;
  const auto* weights = static_cast<const typename A::Element*>(args.weights) + static_cast<int64_t>(r) * args.weight_stride;
  for (int c = args.column_begin; c < args.column_end; c += A::kPerWord) {
    const char* rows[A::kPerWord];
    for (int j = 0; j < A::kPerWord; ++j) {
      rows[j] = args.v.row(c + j) + offset;
      if (asks) {
        const uint64_t next = args.ahead->next();
        const uint64_t further = asks_further ? args.further->next() : 0;
        for (int line = 0; line < chunk_bytes; line += 64) {
          ask_for(next + static_cast<uint64_t>(line));
          if (asks_further) {
            ask_second_level_for(further + static_cast<uint64_t>(line));
          }
        }
      }
    }
    VecPair values[N];
    for (int n = 0; n < N; ++n) {
      values[n] = Tail ? A::load_first_of_panel(rows, last) : A::load_panel(rows);
      for (int j = 0; j < A::kPerWord; ++j) {
        rows[j] += kPanelBytes;
      }
    }
    for (int i = 0; i < R; ++i) {
      const Vec weight = A::broadcast_word(weights + i * args.weight_stride + c);
      for (int n = 0; n < N; ++n) {
        sums[i][2 * n] = A::multiply_add(weight, values[n].first, sums[i][2 * n]);
        sums[i][2 * n + 1] = A::multiply_add(weight, values[n].second, sums[i][2 * n + 1]);
      }
    }
  }
  for (int i = 0; i < R; ++i) {
    for (int n = 0; n < 2 * N; ++n) {
      store(o + i * args.o_stride + n * kLanes, sums[i][n]);
    }
  }
}

template <class A, int R, int N>
FOVEA_FN void accumulate_row_cells(const AccumulateArgs& args, int r) {
  const int dim = args.head_dim;
  int d = 0;
  for (; d + N * kPanel <= dim; d += N * kPanel) {
    accumulate_cell<A, R, N, false>(args, r, d, 0);
  }
  for (; d + kPanel <= dim; d += kPanel) {
    accumulate_cell<A, R, 1, false>(args, r, d, 0);
  }
  if (d < dim) {
    accumulate_cell<A, R, 1, true>(args, r, d, dim - d);
  }
}

/// A row's sums in the order of dimensions.
template <class A>
FOVEA_FN void put_in_order(float* o, int stride) {
  for (int d = 0; d < stride; d += kPanel) {
    const VecPair sums = A::in_order({load(o + d), load(o + d + kLanes)});
    store(o + d, sums.first);
    store(o + d + kLanes, sums.second);
  }
}

template <class A>
void accumulate_rows(const AccumulateArgs& args) {
  constexpr int kWide = kLanes == 16 ? 4 : 2;  // panels of one row
  constexpr int kNarrow = kWide / 2;
  int r = 0;
  for (; r + 4 <= args.rows; r += 4) {
    accumulate_row_cells<A, 4, kNarrow>(args, r);
  }
  if (r + 2 <= args.rows) {
    accumulate_row_cells<A, 2, kWide>(args, r);
    r += 2;
  }
  if (r < args.rows) {
    accumulate_row_cells<A, 1, kWide>(args, r);
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
