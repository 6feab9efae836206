// attention_sm80: attention of any batch with mma.sync, for sm_80 and newer. A CTA is a worker; per item:
//   rows -> places of columns -> [ kv tiles by cp.async, `stages` deep ] -> scores -> weights -> o -> merge of the warps -> output or state
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/kernels/attention_sm80/compute.cuh"

namespace fovea::cuda::attention_sm80 {

/// An item on its way through a CTA.
template <Config C, class V>
struct ItemWork {
  const KernelParams& params;
  const V& v;
  const typename V::Mask& mask;
  const WorkItem& item;
  const RowGroup& group;
  const TileSource& source;
  char* shared;
  bool may_be_unseen;  // a column that the closed form shows to some row may be seen by none
};

/// V rows of a masked tile that no row saw become zeros: they may hold anything, and 0 * NaN is NaN. All threads take part.
template <Config C>
__device__ __forceinline__ void drop_unseen(int32_t* seen, char* v) {
  __syncthreads();
  constexpr int32_t kPieces = v_row_bytes(C) / 16;
  for (int32_t i = static_cast<int32_t>(threadIdx.x); i < C.tile_kv * kPieces; i += num_threads(C)) {
    if (seen[i / kPieces] == 0) {
      *reinterpret_cast<uint4*>(v + 16 * i) = uint4{0, 0, 0, 0};
    }
  }
  __syncthreads();
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < C.tile_kv; c += num_threads(C)) {
    seen[c] = 0;
  }
}

template <Config C, class V>
__device__ __forceinline__ void attend_tile(const ItemWork<C, V>& work, const Place<C>& place, int32_t n, States<C>& states) {
  constexpr Layout kLayout = layout_of(C);
  const int32_t tile = work.source.tiles.tiles.tile(n);
  const int32_t stage = n % C.stages;
  char* k = work.shared + kLayout.ring + stage * stage_bytes(C);
  char* v = k + C.tile_kv * k_row_bytes(C);
  Scores<C> scores;
  multiply_keys<C>(place, ptx::shared_address(work.shared + kLayout.q), ptx::shared_address(k), scores);

  const Span columns{tile * C.tile_kv, (tile + 1) * C.tile_kv};
  const bool full = work.source.tiles.full.contains(columns);
  const bool drops = !full && work.may_be_unseen;
  int32_t* seen = reinterpret_cast<int32_t*>(work.shared + kLayout.seen);
  const int32_t ring_place = n % place_tiles(C) * C.tile_kv;
  const TileRule<C, V> rule{
      .v = work.v,
      .mask = work.mask,
      .rows = reinterpret_cast<const Row*>(work.shared + kLayout.rows),
      .columns = work.source.columns,
      .pages = reinterpret_cast<const int32_t*>(work.shared + kLayout.pages) + ring_place,
      .slots = reinterpret_cast<const int32_t*>(work.shared + kLayout.slots) + ring_place,
      .k_scale = reinterpret_cast<const float*>(work.shared + kLayout.k_scale) + stage * C.tile_kv,
      .seen = drops ? seen : nullptr,
      .first_column = columns.begin,
      .kv_head = work.item.kv_head,
      .scale = work.params.sm_scale * head_scale(work.source.kv.k.scale, work.item.kv_head) * (HasTransformLogit<V> ? 1.0f : math::kLog2e)};
  if (full) {
    apply_rule<false>(place, rule, scores);
  } else {
    apply_rule<true>(place, rule, scores);
  }
  if (drops) {
    drop_unseen<C>(seen, v);
  }
  if constexpr (V::use_softmax) {
    update_states<C>(scores, states);
  }
  multiply_values<C>(place, ptx::shared_address(v), reinterpret_cast<const float*>(work.shared + kLayout.v_scale) + stage * C.tile_kv,
                     scores, states);
}

/// All tiles of the item, the next `stages` - 1 on their way while one is computed.
template <Config C, class V>
__device__ __forceinline__ void attend_tiles(const ItemWork<C, V>& work, const Place<C>& place, States<C>& states) {
  constexpr Layout kLayout = layout_of(C);
  constexpr int32_t kAhead = C.stages - 1;
  const VisibleTiles tiles = work.source.tiles.tiles;
  const int32_t count = tiles.count();
  const auto fetch = [&](int32_t n) {
    if (n < count) {
      fetch_places<C>(work.source, tiles.tile(n), n % place_tiles(C), work.shared);
    }
  };
  const auto load = [&](int32_t n) {
    if (n < count) {
      load_tile<C>(work.source, n % place_tiles(C), n % C.stages, work.shared);
    }
  };
  for (int32_t n = 0; n < kAhead; ++n) {
    fetch(n);
  }
  ptx::commit_copies();
  ptx::wait_for_copies<0>();
  __syncthreads();  // Order: rows and places are written before they are read
  load_queries<C>(work.params, reinterpret_cast<const Row*>(work.shared + kLayout.rows), work.item.row_end - work.item.row_begin,
                  work.shared + kLayout.q);
  for (int32_t n = 0; n < kAhead; ++n) {
    load(n);
    fetch(n + kAhead);
    ptx::commit_copies();
  }
  for (int32_t n = 0; n < count; ++n) {
    // The group committed n-th holds tile n and the places of tile n + kAhead.
    ptx::wait_for_copies<kAhead - 1>();
    __syncthreads();  // Order: everybody's copies are there, and everybody is done with the stage that is loaded next
    load(n + kAhead);
    fetch(n + 2 * kAhead);
    ptx::commit_copies();
    attend_tile(work, place, n, states);
  }
  ptx::wait_for_copies<0>();
  __syncthreads();  // Order: the ring is free for o
}

/// The warps' states of every row, merged in a fixed order, to where the item says.
template <Config C, class V>
__device__ __forceinline__ void write_rows(const ItemWork<C, V>& work) {
  constexpr Layout kLayout = layout_of(C);
  const float* tops = reinterpret_cast<const float*>(work.shared + kLayout.top_sum);
  const float* sums = tops + C.warps_kv * C.tile_q;
  const float* out = reinterpret_cast<const float*>(work.shared + kLayout.ring);
  const Row* rows = reinterpret_cast<const Row*>(work.shared + kLayout.rows);
  const float v_scale = head_scale(work.source.kv.v.scale, work.item.kv_head);
  for (int32_t r = static_cast<int32_t>(threadIdx.x / 32); r < work.item.row_end - work.item.row_begin; r += num_threads(C) / 32) {
    float weights[C.warps_kv];
    float top = -math::infinity<float>(), sum = 0.0f;
#pragma unroll
    for (int32_t w = 0; w < C.warps_kv; ++w) {
      top = fmaxf(top, tops[w * C.tile_q + r]);
    }
    const float base = top == -math::infinity<float>() ? 0.0f : top;
#pragma unroll
    for (int32_t w = 0; w < C.warps_kv; ++w) {
      weights[w] = V::use_softmax ? math::exp2(tops[w * C.tile_q + r] - base) : 1.0f;
      sum += weights[w] * sums[w * C.tile_q + r];
    }
    const bool empty = V::use_softmax && sum == 0.0f;  // NaN is no empty state
    const float factor = empty ? 0.0f : v_scale * (V::use_softmax ? 1.0f / sum : 1.0f);
    const float lse2 = empty ? -math::infinity<float>() : V::use_softmax ? top + math::log2(sum) : 0.0f;
    const auto o = [&](int32_t d) {
      float total = 0.0f;
#pragma unroll
      for (int32_t w = 0; w < C.warps_kv; ++w) {
        total += weights[w] * out[(w * C.tile_q + r) * out_row_floats(C) + d];
      }
      return total * factor;
    };
    write_row(work.params, work.v, work.item, work.group.format, rows[r], r, o, lse2);
  }
}

template <Config C, class V>
__device__ __forceinline__ void attend_item(const KernelParams& params, const V& v, const typename V::Mask& mask, const WorkItem& item,
                                            char* shared) {
  constexpr Layout kLayout = layout_of(C);
  const RowGroup group = params.plan.groups[item.row_group];
  const KvView& kv = params.kv[group.format];
  const RowBounds bounds = bounds_of_rows(params, group, item.row_begin, item.row_end);
  const TileSource source{.kv = kv,
                          .columns = columns_of(kv, group),
                          .tiles = tiles_of_item(params, item, group, bounds, C.tile_kv),
                          .k = head_cache(kv.k, item.kv_head, row_of(C.k).bits / 8, params.head_dim_qk),
                          .v = head_cache(kv.v, item.kv_head, row_of(C.v).bits / 8, params.head_dim_vo),
                          .kv_head = item.kv_head,
                          .kv_len_max = bounds.kv_len_max};
  const ItemWork<C, V> work{.params = params,
                            .v = v,
                            .mask = mask,
                            .item = item,
                            .group = group,
                            .source = source,
                            .shared = shared,
                            .may_be_unseen = !params.range.exact || kv.by_index || group.rows >= 0};
  __syncthreads();  // Order: the item before is done with shared memory
  Row* rows = reinterpret_cast<Row*>(shared + kLayout.rows);
  for (int32_t r = static_cast<int32_t>(threadIdx.x); r < C.tile_q; r += num_threads(C)) {
    Row row{};  // sees nothing
    if (item.row_begin + r < item.row_end) {
      row = make_row(params, group, item.kv_head, item.row_begin + r);
      row.col_end = min_(row.col_end, item.col_end);
    }
    rows[r] = row;
  }
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < C.tile_kv; c += num_threads(C)) {
    reinterpret_cast<int32_t*>(shared + kLayout.seen)[c] = 0;
  }
  const Place<C> place;
  States<C> states;
  clear(states);
  attend_tiles(work, place, states);
  const int32_t share = place.first_col / kWarpCols<C>;
  float* tops = reinterpret_cast<float*>(shared + kLayout.top_sum);
  store_states<C>(place, states, reinterpret_cast<float*>(shared + kLayout.ring) + share * C.tile_q * out_row_floats(C),
                  tops + share * C.tile_q, tops + (C.warps_kv + share) * C.tile_q);
  __syncthreads();
  write_rows(work);
}

template <Config C, AttentionVariant V>
__device__ __forceinline__ void attention(const KernelParams& params, const typename V::Mask& mask,
                                          const typename V::Params& variant_params, int32_t config) {
  static_assert(!HasTransformQuery<V> && !HasTransformKey<V> && !HasTransformValue<V>, "this kernel has no transforms of rows yet");
  static_assert(C.tile_q % (16 * C.warps_q) == 0 && C.tile_kv % (16 * C.warps_kv) == 0,
                "warps take 16 rows and 16 columns at a time; see select.cc");
  static_assert(C.head_dim_qk % 16 == 0 && C.head_dim_vo % 16 == 0, "head dims are rounded up to multiples of 16; see select.cc");
  static_assert(C.stages >= 2, "a tile is loaded while another is computed; see select.cc");
  extern __shared__ __align__(16) char shared[];
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const V v = make_variant<V>(mask, variant_params);
  for_each_item<C.form>(params, config, [&](const WorkItem& item) { attend_item<C, V>(params, v, mask, item, shared); });
}

}  // namespace fovea::cuda::attention_sm80
