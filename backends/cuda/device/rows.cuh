// The rows of an item, what they see between them, and the kv tiles that follow.
#pragma once

#include "portable/variant.h"
#include "portable/work_iterator.h"

namespace fovea::cuda {

/// A packed row: where its query and output are, and where it stands.
struct alignas(16) Row {
  int32_t token, request, q_pos, col_end;  // query token; columns it may see, [0, col_end)
  int32_t qo_idx, qo_head, qo_len, kv_len;
};

/// Reads a plan before the kernels in front of this one are done: around L1, which may hold a line from before the plan was written.
/// Whoever writes plans lets nobody start before its writes are done.
struct ReadEarly {
  template <class T>
  __device__ __forceinline__ T operator()(const T* from) const {
    static_assert(sizeof(T) % 16 == 0, "structs of a plan are pieces of 16 bytes");
    union Copy {
      uint4 pieces[sizeof(T) / 16];
      T value;
      __device__ __forceinline__ Copy() {}
    } copy;
#pragma unroll
    for (int32_t i = 0; i < static_cast<int32_t>(sizeof(T) / 16); ++i) {
      copy.pieces[i] = __ldcg(reinterpret_cast<const uint4*>(from) + i);
    }
    return copy.value;
  }
};

template <class Read = ReadPlainly>
__device__ __forceinline__ Row make_row(const KernelParams& params, const RowGroup& group, int32_t kv_head, int32_t packed_row,
                                        const Read& read = {}) {
  const int32_t i = packed_row / params.group_size;
  Row row{.token = group.q_row_begin + i, .request = group.request, .q_pos = group.q_pos + i, .col_end = group.num_cols};
  if (group.rows >= 0) {
    const RowRef ref = read(params.plan.row_refs + group.rows + i);
    row.token = ref.row;
    row.request = ref.request;
    row.q_pos = ref.q_pos;
    row.col_end = min_(ref.col_end, group.num_cols);
  }
  const Request request = read(params.plan.requests + row.request);
  row.qo_idx = row.token - request.qo_begin;
  row.qo_head = kv_head * params.group_size + (packed_row - i * params.group_size);
  row.qo_len = request.qo_len;
  row.kv_len = request.kv_len;
  return row;
}

__device__ __forceinline__ Position<> position_of(const Row& row, int32_t kv_head, int32_t kv_pos) {
  return {.request = row.request,
          .qo_idx = row.qo_idx,
          .q_pos = row.q_pos,
          .kv_pos = kv_pos,
          .qo_head = row.qo_head,
          .kv_head = kv_head,
          .qo_len = row.qo_len,
          .kv_len = row.kv_len};
}

/// What the rows of an item see between them.
struct RowBounds {
  QueryPositions q;
  int32_t col_end_min, col_end_max, kv_len_max;
};

/// The same in every lane of a warp; all 32 take part.
template <class Read = ReadPlainly>
__device__ __forceinline__ RowBounds bounds_of_rows(const KernelParams& params, const RowGroup& group, int32_t row_begin, int32_t row_end,
                                                    const Read& read = {}) {
  if (group.rows < 0) {
    return {.q = query_positions(group, row_begin, row_end, params.group_size),
            .col_end_min = group.num_cols,
            .col_end_max = group.num_cols,
            .kv_len_max = read(params.plan.requests + group.request).kv_len};
  }
  RowBounds b{.q = {kAnyPosition, -kAnyPosition}, .col_end_min = group.num_cols, .col_end_max = 0, .kv_len_max = 0};
  const int32_t end = (row_end - 1) / params.group_size + 1;
  for (int32_t i = row_begin / params.group_size + static_cast<int32_t>(threadIdx.x % 32); i < end; i += 32) {
    const RowRef ref = read(params.plan.row_refs + group.rows + i);
    b.q.lo = min_(b.q.lo, ref.q_pos);
    b.q.hi = max_(b.q.hi, ref.q_pos);
    b.col_end_min = min_(b.col_end_min, ref.col_end);
    b.col_end_max = max_(b.col_end_max, min_(ref.col_end, group.num_cols));
    b.kv_len_max = max_(b.kv_len_max, read(params.plan.requests + ref.request).kv_len);
  }
  return {.q = {__reduce_min_sync(0xffffffffu, b.q.lo), __reduce_max_sync(0xffffffffu, b.q.hi)},
          .col_end_min = __reduce_min_sync(0xffffffffu, b.col_end_min),
          .col_end_max = __reduce_max_sync(0xffffffffu, b.col_end_max),
          .kv_len_max = __reduce_max_sync(0xffffffffu, b.kv_len_max)};
}

__device__ __forceinline__ Span clipped(Span span, int32_t begin, int32_t end) {
  const Span inside{max_(span.begin, begin), min_(span.end, end)};
  return inside.empty() ? Span{} : inside;
}

__device__ __forceinline__ bool holds(const SpanPair& spans, int32_t i) {
  return (i >= spans.first.begin && i < spans.first.end) || (i >= spans.second.begin && i < spans.second.end);
}

/// The tiles an item computes: those that some of its rows may see, inside the item's columns.
struct ItemTiles {
  SpanPair columns;
  SpanPair full;       // columns that every row sees for certain
  SpanPair positions;  // by_index: that some row may see
  VisibleTiles tiles;
};

__device__ __forceinline__ ItemTiles tiles_of_item(const KernelParams& params, const WorkItem& item, const RowGroup& group,
                                                   const RowBounds& bounds, int32_t tile_kv) {
  const bool by_index = params.kv[group.format].by_index != 0;
  const int32_t end = min_(item.col_end, bounds.col_end_max);
  const SpanPair visible = visible_columns(group, params.range, bounds.q, by_index);
  const SpanPair full = full_columns(group, params.range, bounds.q, by_index);
  ItemTiles t;
  t.columns = joined(clipped(visible.first, item.col_begin, end), clipped(visible.second, item.col_begin, end));
  t.full = joined(clipped(full.first, item.col_begin, min_(end, bounds.col_end_min)),
                  clipped(full.second, item.col_begin, min_(end, bounds.col_end_min)));
  t.positions = positions_some_see(params.range, bounds.q.lo, bounds.q.hi);
  t.tiles = visible_tiles(t.columns, tile_kv);
  return t;
}

/// Where the columns of a group are stored.
struct Columns {
  const int32_t* table;  // of the group; null: ragged
  int64_t table_begin;
  int32_t page_size, by_index;
  int32_t kv_pos, kv_pos_stride;
};

__device__ __forceinline__ Columns columns_of(const KvView& kv, const RowGroup& group) {
  return {.table = kv.table == nullptr ? nullptr : kv.table + group.table_begin,
          .table_begin = group.table_begin,
          .page_size = kv.table == nullptr ? 1 : kv.page_size,
          .by_index = kv.by_index,
          .kv_pos = group.kv_pos,
          .kv_pos_stride = group.kv_pos_stride};
}

/// Position of a column that is in `slot` of `page`.
__device__ __forceinline__ int32_t kv_position(const Columns& columns, int32_t column, int64_t page, int32_t slot) {
  const int64_t place = columns.by_index ? page * columns.page_size + slot : column;
  return static_cast<int32_t>(columns.kv_pos + place * columns.kv_pos_stride);
}

/// Scale of a cache whose tokens all have the same; 1 where it differs from token to token.
__device__ __forceinline__ float head_scale(const ScaleView& scale, int32_t kv_head) {
  if (scale.per_token) {
    return 1.0f;
  }
  return scale.data == nullptr ? scale.number : scale.data[kv_head * scale.head_stride];
}

}  // namespace fovea::cuda
