// The rows of an item: who they are, where they may look, and their queries as floats.
#pragma once

#include "backends/cpu/device/vector.h"
#include "backends/cpu/kernels/attention_simd/kernel.h"
#include "portable/work_iterator.h"

namespace fovea::cpu::FOVEA_CPU_ISA {

FOVEA_FN constexpr int32_t padded(int32_t head_dim) { return ceil_div(head_dim, kRowPadding) * kRowPadding; }

/// Rows of one unit: what items and merges have in common.
struct RowSpan {
  const RowGroup& group;
  int32_t kv_head, row_begin, row_end;
};

FOVEA_FN ItemRow make_row(const KernelParams& params, const RowSpan& span, int32_t packed_row) {
  const RowGroup& group = span.group;
  const int32_t i = packed_row / params.group_size;
  const int32_t head = span.kv_head * params.group_size + packed_row % params.group_size;
  ItemRow row;
  int32_t request = group.request;
  int32_t q_pos = group.q_pos + i;
  row.token = group.q_row_begin + i;
  row.col_end = group.num_cols;
  if (group.rows >= 0) {
    const RowRef& ref = params.plan.row_refs[group.rows + i];
    row.token = ref.row;
    row.col_end = min_(ref.col_end, group.num_cols);
    request = ref.request;
    q_pos = ref.q_pos;
  }
  const Request& of = params.plan.requests[request];
  row.at = {.request = request,
            .qo_idx = row.token - of.qo_begin,
            .q_pos = q_pos,
            .kv_pos = 0,
            .qo_head = head,
            .kv_head = span.kv_head,
            .qo_len = of.qo_len,
            .kv_len = of.kv_len};
  return row;
}

/// What the rows of an item see between them.
struct RowBounds {
  QueryPositions q;
  int32_t col_end_min, col_end_max;
  int32_t kv_len_max;
};

FOVEA_FN RowBounds make_rows(const KernelParams& params, const RowSpan& span, ItemRow* rows) {
  RowBounds bounds{.q = {kAnyPosition, -kAnyPosition}, .col_end_min = span.group.num_cols, .col_end_max = 0, .kv_len_max = 0};
  for (int32_t p = span.row_begin; p < span.row_end; ++p) {
    const ItemRow row = make_row(params, span, p);
    bounds.q.lo = min_(bounds.q.lo, row.at.q_pos);
    bounds.q.hi = max_(bounds.q.hi, row.at.q_pos);
    bounds.col_end_min = min_(bounds.col_end_min, row.col_end);
    bounds.col_end_max = max_(bounds.col_end_max, row.col_end);
    bounds.kv_len_max = max_(bounds.kv_len_max, row.at.kv_len);
    rows[p - span.row_begin] = row;
  }
  return bounds;
}

/// q rows as floats, padded with zeros to whole vectors.
template <DType D>
FOVEA_FN void load_queries(const KernelParams& params, const ItemRow* rows, int32_t num_rows, float* out) {
  const int32_t stride = padded(params.head_dim_qk);
  for (int32_t r = 0; r < num_rows; ++r) {
    const int64_t element = rows[r].token * params.q.token_stride + rows[r].at.qo_head * params.q.head_stride;
    const char* row = static_cast<const char*>(params.q.data) + element * kBytes<D>;
    for (int32_t d = 0; d < stride; d += kLanes) {
      const int32_t left = params.head_dim_qk - d;
      const char* p = row + d * kBytes<D>;
      store(out + static_cast<int64_t>(r) * stride + d, left >= kLanes ? load_as<D>(p) : (left > 0 ? load_first_as<D>(p, left) : zero()));
    }
  }
}

/// Queries as the variant has them: dequantised, then transformed.
FOVEA_FN void transform_queries(const KernelParams& params, const VariantCode& variant, const ItemRow* rows, int32_t num_rows, float* q) {
  const int32_t stride = padded(params.head_dim_qk);
  const Vec scale = broadcast(params.q_scale);
  for (int32_t r = 0; r < num_rows; ++r) {
    float* row = q + static_cast<int64_t>(r) * stride;
    for (int32_t d = 0; d < stride; d += kLanes) {
      store(row + d, multiply(load(row + d), scale));
    }
    variant.transform_query(params.mask, params.variant_params, row, params.head_dim_qk, rows[r].at);
  }
}

/// bf16 q rows as they are, padded with zeros to whole panels.
FOVEA_FN void copy_queries(const KernelParams& params, const ItemRow* rows, int32_t num_rows, void* out) {
  const int32_t stride = padded(params.head_dim_qk);
  const auto* q = static_cast<const uint16_t*>(params.q.data);
  for (int32_t r = 0; r < num_rows; ++r) {
    const uint16_t* row = q + rows[r].token * params.q.token_stride + rows[r].at.qo_head * params.q.head_stride;
    uint16_t* copy = static_cast<uint16_t*>(out) + static_cast<int64_t>(r) * stride;
    for (int32_t d = 0; d < stride; ++d) {
      copy[d] = d < params.head_dim_qk ? row[d] : uint16_t{0};
    }
  }
}

/// Row `r` of the queries.
FOVEA_FN const void* query_row(const Scratch& scratch, int64_t r, int32_t stride, bool as_pairs) {
  const int64_t bytes = as_pairs ? static_cast<int64_t>(sizeof(uint16_t)) : static_cast<int64_t>(sizeof(float));
  return static_cast<const char*>(scratch.q) + r * stride * bytes;
}

/// The tiles a set of items computes: those that some of its rows may see, inside the items' columns.
struct ItemTiles {
  SpanPair columns;
  SpanPair full;  // columns that every row sees
  VisibleTiles tiles;
};

FOVEA_FN Span clipped(Span span, int32_t begin, int32_t end) {
  const Span inside{max_(span.begin, begin), min_(span.end, end)};
  return inside.empty() ? Span{} : inside;
}

FOVEA_FN ItemTiles item_tiles(const KernelParams& params, Span item, const RowGroup& group, const RowBounds& bounds, int32_t tile_kv) {
  const bool by_index = params.kv[group.format].by_index != 0;
  const int32_t end = min_(item.end, bounds.col_end_max);
  const SpanPair visible = visible_columns(group, params.range, bounds.q, by_index);
  const SpanPair full = full_columns(group, params.range, bounds.q, by_index);
  ItemTiles tiles;
  tiles.columns = joined(clipped(visible.first, item.begin, end), clipped(visible.second, item.begin, end));
  tiles.full = joined(clipped(full.first, item.begin, bounds.col_end_min), clipped(full.second, item.begin, bounds.col_end_min));
  tiles.tiles = visible_tiles(tiles.columns, tile_kv);
  return tiles;
}

}  // namespace fovea::cpu::FOVEA_CPU_ISA
