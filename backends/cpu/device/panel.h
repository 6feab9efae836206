// Products of many rows: a tile of K or V is packed once into panels of words, and rows are multiplied with panels by an outer-product
// microkernel. A panel is kPanel columns wide: word (k, column j) of panel p is at (p * depth + k) * kPanel + j.
#pragma once

#include "backends/cpu/device/arithmetic.h"
#include "backends/cpu/device/dot.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

/// rows[i] lane j becomes columns[j] lane i.
FOVEA_FN void transpose(const Vec (&rows)[kLanes], Vec (&columns)[kLanes]) {
  Vec pairs[kLanes];
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = unpack_low(rows[i], rows[i + 1]);
    pairs[i + 1] = unpack_high(rows[i], rows[i + 1]);
  }
  Vec fours[kLanes];  // fours[4 * i + j]: column 4 * q + j of rows 4 * i .. 4 * i + 3 in 128-bit lane q
  for (int i = 0; i < kLanes; i += 4) {
    fours[i] = unpack_low_pairs(pairs[i], pairs[i + 2]);
    fours[i + 1] = unpack_high_pairs(pairs[i], pairs[i + 2]);
    fours[i + 2] = unpack_low_pairs(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = unpack_high_pairs(pairs[i + 1], pairs[i + 3]);
  }
  for (int j = 0; j < 4; ++j) {
#if defined(__AVX512F__)
    const Vec ab_low = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0x44);
    const Vec ab_high = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0xee);
    const Vec cd_low = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0x44);
    const Vec cd_high = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0xee);
    columns[j] = _mm512_shuffle_f32x4(ab_low, cd_low, 0x88);
    columns[4 + j] = _mm512_shuffle_f32x4(ab_low, cd_low, 0xdd);
    columns[8 + j] = _mm512_shuffle_f32x4(ab_high, cd_high, 0x88);
    columns[12 + j] = _mm512_shuffle_f32x4(ab_high, cd_high, 0xdd);
#else
    columns[j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
    columns[4 + j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
#endif
  }
}

/// Panels of K transposed: depth head_dim in words, columns the K rows. `columns` is a multiple of kPanel.
template <class A>
void pack_k(const HeadRows& k, int columns, int head_dim, float* panels, AskAhead* ahead) {
  constexpr int kElementBytes = kBytes<A::kDType>;
  const int depth = ceil_div(head_dim, A::kPerWord);
  for (int c = 0; c < columns; c += kLanes) {
    uint64_t next[kLanes] = {};
    float* panel = panels + static_cast<int64_t>(c / kPanel) * depth * kPanel + c % kPanel;
    for (int d = 0; d < head_dim; d += A::kStep) {
      const int left = min_(A::kStep, head_dim - d);
      Vec rows[kLanes], turned[kLanes];
      const bool asks = ahead != nullptr && d == 0;
      for (int i = 0; i < kLanes; ++i) {
        if (asks) {
          next[i] = ahead->next();
        }
        if (ahead != nullptr && d * kElementBytes % 64 == 0) {
          ask_for(next[i] + static_cast<uint64_t>(d * kElementBytes));
        }
        const char* p = k.row(c + i) + d * kElementBytes;
        rows[i] = left == A::kStep ? A::load(p) : A::load_first(p, left);
      }
      transpose(rows, turned);
      const int words = ceil_div(left, A::kPerWord);
      for (int i = 0; i < words; ++i) {
        store(panel + static_cast<int64_t>(d / A::kPerWord + i) * kPanel, turned[i]);
      }
    }
  }
}

/// Panels of V: depth the V rows in words, columns head_dim, padded with zeros and in the arithmetic's order.
template <class A>
void pack_v(const HeadRows& v, int columns, int head_dim, float* panels, AskAhead* ahead) {
  constexpr int kPanelBytes = kPanel * kBytes<A::kDType>;
  const int64_t panel_words = static_cast<int64_t>(columns / A::kPerWord) * kPanel;
  for (int c = 0; c < columns; c += A::kPerWord) {
    float* out = panels + static_cast<int64_t>(c / A::kPerWord) * kPanel;
    const char* rows[A::kPerWord];
    uint64_t next[A::kPerWord] = {};
    for (int j = 0; j < A::kPerWord; ++j) {
      rows[j] = v.row(c + j);
      next[j] = ahead != nullptr ? ahead->next() : 0;
    }
    for (int d = 0; d < head_dim; d += kPanel, out += panel_words) {
      for (int j = 0; ahead != nullptr && j < A::kPerWord; ++j) {
        for (int line = 0; line < kPanelBytes; line += 64) {
          ask_for(next[j] + static_cast<uint64_t>(d / kPanel * kPanelBytes + line));
        }
      }
      const VecPair values = d + kPanel <= head_dim ? A::load_panel(rows) : A::load_first_of_panel(rows, head_dim - d);
      store(out, values.first);
      store(out + kLanes, values.second);
      for (int j = 0; j < A::kPerWord; ++j) {
        rows[j] += kPanelBytes;
      }
    }
  }
}

/// c[row, panel columns] (+)= a[row, 0 .. depth words) . panel.
struct PanelArgs {
  const void* a;  // of the arithmetic's elements
  int64_t a_stride;
  const float* panel;
  int32_t depth;  // words
  float* c;
  int64_t c_stride;
  bool adds;
};

template <class A, int R>
FOVEA_FN void panel_cell(const PanelArgs& args) {
  Vec low[R], high[R];
  for (int i = 0; i < R; ++i) {
    low[i] = args.adds ? load(args.c + i * args.c_stride) : zero();
    high[i] = args.adds ? load(args.c + i * args.c_stride + kLanes) : zero();
  }
  const float* panel = args.panel;
  const auto* a = static_cast<const typename A::Element*>(args.a);
  for (int k = 0; k < args.depth; ++k, panel += kPanel, a += A::kPerWord) {
    const Vec left = load(panel);
    const Vec right = load(panel + kLanes);
    for (int i = 0; i < R; ++i) {
      const Vec x = A::broadcast_word(a + i * args.a_stride);
      low[i] = A::multiply_add(x, left, low[i]);
      high[i] = A::multiply_add(x, right, high[i]);
    }
  }
  for (int i = 0; i < R; ++i) {
    store(args.c + i * args.c_stride, low[i]);
    store(args.c + i * args.c_stride + kLanes, high[i]);
  }
}

inline constexpr int kMaxPanelRows = kLanes == 16 ? 12 : 6;

template <class A, int R>
FOVEA_FN void panel_rows(const PanelArgs& args, int rows) {
  if constexpr (R > 1) {
    if (rows < R) {
      panel_rows<A, R - 1>(args, rows);
      return;
    }
  }
  panel_cell<A, R>(args);
}

/// All rows against `num_panels` panels. Panels outside, rows inside: a panel stays in the first-level cache.
template <class A>
void panel_product(const PanelArgs& args, int rows, int num_panels) {
  const int num_cells = ceil_div(rows, kMaxPanelRows);
  for (int p = 0; p < num_panels; ++p) {
    int begin = 0;
    for (int cell = 0; cell < num_cells; ++cell) {
      const int count = ceil_div(rows - begin, num_cells - cell);  // even cells: a cell of one row would wait on latency
      panel_rows<A, kMaxPanelRows>({.a = static_cast<const typename A::Element*>(args.a) + begin * args.a_stride,
                                    .a_stride = args.a_stride,
                                    .panel = args.panel + static_cast<int64_t>(p) * args.depth * kPanel,
                                    .depth = args.depth,
                                    .c = args.c + begin * args.c_stride + p * kPanel,
                                    .c_stride = args.c_stride,
                                    .adds = args.adds},
                                   count);
      begin += count;
    }
  }
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
