// attention_sm80: attention of any batch with mma.sync, for sm_80 and newer. A CTA is a worker; per item:
//   rows -> places of columns -> [ kv tiles by cp.async, `stages` deep ] -> scores -> weights -> o -> merge of the warps -> output or state
#pragma once

#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/kernels/attention_sm80/finish.cuh"

namespace fovea::cuda::attention_sm80 {

/// Bounds of [begin, end), which lanes 0 .. last of a warp have of their own; all 32 take part.
__device__ __forceinline__ RowBounds bounds_of_lane(const KernelParams& params, const RowGroup& group, int32_t last, int32_t begin,
                                                    int32_t end) {
  if (group.rows < 0) {
    return bounds_of_rows(params, group, begin, max_(begin + 1, end));
  }
  RowBounds mine{};
#pragma unroll 1
  for (int32_t lane = 0; lane <= last; ++lane) {
    const int32_t lane_begin = __shfl_sync(0xffffffffu, begin, lane);
    const int32_t lane_end = __shfl_sync(0xffffffffu, end, lane);
    if (lane_begin < lane_end) {
      const RowBounds bounds = bounds_of_rows(params, group, lane_begin, lane_end);
      mine = static_cast<int32_t>(threadIdx.x) == lane ? bounds : mine;
    }
  }
  return mine;
}

/// Fills in ItemData.
template <Config C, class V>
__device__ __forceinline__ void begin_item(const ItemWork<C, V>& work, const Place<C>& place, const WorkItem& item, int32_t round) {
  const KernelParams& params = work.params;
  ItemData<C>& data = work.data();
  const RowGroup group = params.plan.groups[item.row_group];
  const KvView& kv = params.kv[group.format];
  const bool may_be_unseen = !params.range.exact || kv.by_index || group.rows >= 0;
  // A lane of the first warp for every warp's rows, and one for the item's.
  if (threadIdx.x < 32) {
    const int32_t lane = place.lane;
    const int32_t begin = lane < C.warps_q ? item.row_begin + 16 * kRowTiles<C> * lane : item.row_begin;
    const int32_t end = lane < C.warps_q ? min_(item.row_end, begin + 16 * kRowTiles<C>) : item.row_end;
    RowBounds bounds = bounds_of_lane(params, group, C.warps_q, begin, end);
    ItemTiles tiles{};
    if (begin < end) {
      tiles = tiles_of_item(params, item, group, bounds, C.tile_kv);
    }
    if (lane < C.warps_q) {
      const Span longer = tiles.full.first.length() > tiles.full.second.length() ? tiles.full.first : tiles.full.second;
      data.columns[lane] = {may_be_unseen ? Span{} : longer, tiles.columns, tiles.full};
    } else if (lane == C.warps_q) {
      data.source.tiles = tiles;
      data.tiles = tiles.tiles;
      data.count = tiles.tiles.count();
      data.source.kv_len_max = bounds.kv_len_max;
    }
  }
  if (threadIdx.x == 0) {
    data.item = item;
    data.round = round;
    data.format = group.format;
    data.source.columns = columns_of(kv, group);
    data.source.k = head_cache(kv.k, item.kv_head, row_of(C.k).bits / 8, params.head_dim_qk);
    data.source.v = head_cache(kv.v, item.kv_head, row_of(C.v).bits / 8, params.head_dim_vo);
    data.source.kv_head = item.kv_head;
    data.aligned = data.source.k.is_aligned && data.source.v.is_aligned;
    data.may_be_unseen = may_be_unseen;
    // raise_states() takes a positive scale; 0 is as good as nearly 0.
    const float scale = params.sm_scale * head_scale(kv.k.scale, item.kv_head);
    data.negative = kScalesLate<V> && scale < 0.0f;
    data.scale = kScalesLate<V> ? fmaxf(fabsf(scale), 1e-37f) : scale;
  }
  Row* rows = reinterpret_cast<Row*>(work.shared + layout_of(C).rows);
  for (int32_t r = static_cast<int32_t>(threadIdx.x); r < C.tile_q; r += num_threads(C)) {
    Row row{};  // sees nothing
    if (item.row_begin + r < item.row_end) {
      row = make_row(params, group, item.kv_head, item.row_begin + r);
      row.col_end = min_(row.col_end, item.col_end);
    }
    rows[r] = row;
  }
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < 2 * C.tile_kv; c += num_threads(C)) {
    reinterpret_cast<int32_t*>(work.shared + layout_of(C).seen)[c] = 0;
  }
}

template <Config C, class V>
__device__ __forceinline__ int32_t attend_item(const ItemWork<C, V>& work, const WorkItem& item, int32_t round) {
  static_assert(sizeof(ItemData<C>) <= item_bytes(C), "see item_bytes");
  static_assert(FOVEA_OFFSETOF(ItemData<C>, aligned) == kAlignedOfItem && FOVEA_OFFSETOF(ItemData<C>, count) == kCountOfItem &&
                    FOVEA_OFFSETOF(ItemData<C>, columns) == kColumnsOfWarps && FOVEA_OFFSETOF(ItemData<C>, scale) == scale_of_item(C),
                "where they are read");
  constexpr Layout kLayout = layout_of(C);
  __syncthreads();  // Order: the item before is done with shared memory
  begin_item(work, Place<C>{}, item, round);
  __syncthreads();  // Order: the item's data and rows are written before they are read
  States<C> states;
  clear(states);
  attend_tiles(work, states);
  if constexpr (C.warps_kv == 1) {
    write_rows(work, Place<C>{}, states);
  } else {
    __syncthreads();  // Order: the ring is free for o
    const Place<C> place;
    const int32_t share = place.first_col / kWarpCols<C>;
    float* tops = reinterpret_cast<float*>(work.shared + kLayout.top_sum);
    store_states<C>(place, states, reinterpret_cast<float*>(work.shared + kLayout.ring) + share * C.tile_q * out_row_floats(C),
                    tops + share * C.tile_q, tops + (C.warps_kv + share) * C.tile_q);
    __syncthreads();
    merge_warps(work);
  }
  return work.data().round;
}

template <Config C, AttentionVariant V>
__device__ __forceinline__ void attention(const KernelParams& params, const typename V::Mask& mask,
                                          const typename V::Params& variant_params, int32_t config) {
  static_assert(!HasTransformQuery<V> && !HasTransformKey<V> && !HasTransformValue<V>, "this kernel has no transforms of rows yet");
  static_assert(C.tile_q % (16 * C.warps_q) == 0 && C.tile_kv % (16 * C.warps_kv) == 0,
                "warps take 16 rows and 16 columns at a time; see select.cc");
  static_assert(C.head_dim_qk % 16 == 0 && C.head_dim_vo % 16 == 0, "head dims are rounded up to multiples of 16; see select.cc");
  static_assert(C.stages == 2 || (C.stages == 1 && num_strips(C) == 1), "see TileLoads; select.cc");
  static_assert(num_strips(C) <= 2, "columns that nobody sees are known when the first values are multiplied");
  extern __shared__ __align__(16) char shared[];
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const V v = make_variant<V>(mask, variant_params);
  const ItemWork<C, V> work{.params = params, .v = v, .mask = mask, .shared = shared};
  for_each_item<C.form>(params, config, [&](const WorkItem& item, int32_t round) { return attend_item(work, item, round); });
}

}  // namespace fovea::cuda::attention_sm80
