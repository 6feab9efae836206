// Products of many rows: a tile of K or V is converted once into float panels, and rows are multiplied with panels by an outer-product
// microkernel. A panel is kPanel columns wide: element (k, column j) of panel p is at (p * depth + k) * kPanel + j.
#pragma once

#include "backends/cpu/device/dot.h"
#include "backends/cpu/device/vector.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

inline constexpr int kPanel = 2 * kLanes;

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

/// Panels of K transposed: depth head_dim, columns the K rows. `columns` is a multiple of kPanel.
template <DType D>
void pack_k(const HeadRows& k, int columns, int head_dim, float* panels, const AskAhead& ahead) {
  for (int c = 0; c < columns; c += kLanes) {
    float* panel = panels + static_cast<int64_t>(c / kPanel) * head_dim * kPanel + c % kPanel;
    for (int d = 0; d < head_dim; d += kLanes) {
      const int depth = min_(kLanes, head_dim - d);
      Vec rows[kLanes], turned[kLanes];
      const bool asks = ahead.rows != nullptr && d * kBytes<D> % 64 == 0;
      for (int i = 0; i < kLanes; ++i) {
        if (asks) {
          ask_for(ahead.chunk(c + i) + static_cast<uint64_t>(d * kBytes<D>));
        }
        const char* p = k.row(c + i) + d * kBytes<D>;
        rows[i] = depth == kLanes ? load_as<D>(p) : load_first_as<D>(p, depth);
      }
      transpose(rows, turned);
      for (int i = 0; i < depth; ++i) {
        store(panel + static_cast<int64_t>(d + i) * kPanel, turned[i]);
      }
    }
  }
}

/// Panels of V: depth the V rows, columns head_dim, padded with zeros.
template <DType D>
void pack_v(const HeadRows& v, int columns, int head_dim, float* panels, const AskAhead& ahead) {
  for (int c = 0; c < columns; ++c) {
    const char* row = v.row(c);
    float* out = panels + static_cast<int64_t>(c) * kPanel;
    for (int d = 0; d < head_dim; d += kPanel, out += static_cast<int64_t>(columns) * kPanel) {
      if (ahead.rows != nullptr) {
        for (int offset = 0; offset < kPanel * kBytes<D>; offset += 64) {
          ask_for(ahead.chunk(c) + static_cast<uint64_t>(d * kBytes<D> + offset));
        }
      }
      for (int half = 0; half < kPanel; half += kLanes) {
        const int left = head_dim - d - half;
        const char* p = row + (d + half) * kBytes<D>;
        store(out + half, left >= kLanes ? load_as<D>(p) : (left > 0 ? load_first_as<D>(p, left) : zero()));
      }
    }
  }
}

/// c[row, panel columns] (+)= a[row, 0 .. depth) . panel.
struct PanelArgs {
  const float* a;
  int64_t a_stride;
  const float* panel;
  int32_t depth;
  float* c;
  int64_t c_stride;
  bool adds;
};

/// One chain of fused multiply-adds per element, in order of depth: a row's bits never depend on how rows are grouped.
template <int R>
FOVEA_FN void panel_cell(const PanelArgs& args) {
  Vec low[R], high[R];
  for (int i = 0; i < R; ++i) {
    low[i] = args.adds ? load(args.c + i * args.c_stride) : zero();
    high[i] = args.adds ? load(args.c + i * args.c_stride + kLanes) : zero();
  }
  const float* panel = args.panel;
  const float* a = args.a;
  for (int k = 0; k < args.depth; ++k, panel += kPanel, ++a) {
    const Vec left = load(panel);
    const Vec right = load(panel + kLanes);
    for (int i = 0; i < R; ++i) {
      const Vec x = broadcast(a[i * args.a_stride]);
      low[i] = multiply_add(x, left, low[i]);
      high[i] = multiply_add(x, right, high[i]);
    }
  }
  for (int i = 0; i < R; ++i) {
    store(args.c + i * args.c_stride, low[i]);
    store(args.c + i * args.c_stride + kLanes, high[i]);
  }
}

inline constexpr int kMaxPanelRows = kLanes == 16 ? 12 : 6;

template <int R>
FOVEA_FN void panel_rows(const PanelArgs& args, int rows) {
  if constexpr (R > 1) {
    if (rows < R) {
      panel_rows<R - 1>(args, rows);
      return;
    }
  }
  panel_cell<R>(args);
}

/// All rows against `num_panels` panels. Panels outside, rows inside: a panel stays in the first-level cache.
inline void panel_product(const PanelArgs& args, int rows, int num_panels) {
  const int num_cells = ceil_div(rows, kMaxPanelRows);
  for (int p = 0; p < num_panels; ++p) {
    int begin = 0;
    for (int cell = 0; cell < num_cells; ++cell) {
      const int count = ceil_div(rows - begin, num_cells - cell);  // even cells: a cell of one row would wait on latency
      panel_rows<kMaxPanelRows>({.a = args.a + begin * args.a_stride,
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
