// attention_sm80: attention of any batch with mma.sync, for sm_80 and newer. A CTA is a worker; per item:
//   rows -> places of columns -> [ kv tiles by cp.async, `stages` deep ] -> scores -> weights -> o -> merge of the warps -> output or state
#pragma once

#include "backends/cuda/device/output.cuh"
#include "backends/cuda/device/ptx/grid.cuh"
#include "backends/cuda/kernels/attention_sm80/compute.cuh"

namespace fovea::cuda::attention_sm80 {

/// Columns that some row of a warp may see, and that every row of it sees for certain.
struct alignas(16) WarpColumns {
  Span shortcut;  // the longer one of `all`: tiles inside need no closer look. Empty where all tiles need one
  SpanPair some, all;
};

/// An item on its way through a CTA: what is asked for now and then, in shared memory.
template <Config C>
struct ItemData {
  // The beginning is read for every tile, by address.
  VisibleTiles tiles;  // the same as the source's
  int32_t aligned;     // both caches are
  int32_t count;       // of tiles
  int32_t format;
  int32_t round;  // of for_each_item
  WarpColumns columns[C.warps_q];
  float scale;  // sm_scale * k scale
  WorkItem item;
  TileSource source;
  bool negative;       // the sign of a scale that raise_tops is to see positive went into the queries
  bool may_be_unseen;  // a column that the closed form shows to some row may be seen by none
};
inline constexpr int32_t kAlignedOfItem = 16, kCountOfItem = 20, kColumnsOfWarps = 32;  // places in ItemData

template <Config C, class V>
struct ItemWork {
  const KernelParams& params;
  const V& v;
  const typename V::Mask& mask;
  char* shared;

  __device__ __forceinline__ ItemData<C>& data() const { return *reinterpret_cast<ItemData<C>*>(shared + layout_of(C).item); }
  __device__ __forceinline__ const TileSource& source() const { return data().source; }
  __device__ __forceinline__ const KvView& kv() const { return params.kv[data().format]; }
  __device__ __forceinline__ const Row* rows() const { return reinterpret_cast<const Row*>(shared + layout_of(C).rows); }
  __device__ __forceinline__ int32_t num_rows() const { return data().item.row_end - data().item.row_begin; }
};

/// V rows of a masked tile that no row saw become zeros: they may hold anything, and 0 * NaN is NaN. The whole team takes part.
template <Config C>
__device__ __forceinline__ void drop_unseen(const Team<C>& team, int32_t* seen, char* v) {
  team.sync();
  constexpr int32_t kPieces = v_row_bytes(C) / 16;
  for (int32_t i = team.thread; i < kWarpCols<C> * kPieces; i += team.kThreads) {
    if (seen[team.first_col() + i / kPieces] == 0) {
      *reinterpret_cast<uint4*>(v + team.first_col() * v_row_bytes(C) + 16 * i) = uint4{0, 0, 0, 0};
    }
  }
  team.sync();
  for (int32_t c = team.thread; c < kWarpCols<C>; c += team.kThreads) {
    seen[team.first_col() + c] = 0;
  }
}

/// n % kDivisor of n >= 0.
template <int32_t kDivisor>
__device__ __forceinline__ constexpr int32_t remainder(int32_t n) {
  return static_cast<int32_t>(static_cast<uint32_t>(n) % static_cast<uint32_t>(kDivisor));
}

constexpr bool overlap(Span a, Span b) { return a.begin < b.end && b.begin < a.end; }

/// First column of the n-th tile. `item`: shared address of ItemData.
template <Config C>
__device__ __forceinline__ int32_t first_column_of(uint32_t item, int32_t n) {
  const int4 t = ptx::load_shared_16(item);
  return VisibleTiles{{t.x, t.y}, {t.z, t.w}}.tile(n) * C.tile_kv;
}

template <Config C, class V>
__device__ __forceinline__ void attend_tile(const ItemWork<C, V>& work, const Team<C>& team, const Place<C>& place, uint32_t base,
                                            const Queries<C>& queries, int32_t n, States<C>& states) {
  constexpr Layout kLayout = layout_of(C);
  const ItemData<C>& data = work.data();
  const int32_t first = first_column_of<C>(base + kLayout.item, n);
  const Span columns{first, first + C.tile_kv};
  const uint64_t shortcut =
      ptx::load_shared_8(base + kLayout.item + kColumnsOfWarps + place.warp_q * static_cast<int32_t>(sizeof(WarpColumns)));
  bool full = static_cast<int32_t>(shortcut) <= columns.begin && columns.end <= static_cast<int32_t>(shortcut >> 32);
  bool drops = false;
  if (!full) {
    const WarpColumns& mine = data.columns[place.warp_q];
    full = mine.all.contains(columns);
    drops = data.may_be_unseen && !data.source.tiles.full.contains(columns);
    if (!drops && !overlap(columns, mine.some.first) && !overlap(columns, mine.some.second)) {
      return;  // for other warps
    }
  }
  const int32_t stage = remainder<C.stages>(n);
  const int32_t k = kLayout.ring + stage * stage_bytes(C);
  const int32_t v = k + C.tile_kv * k_row_bytes(C);
  Scores<C> scores;
  multiply_keys<C>(place, queries, base + kLayout.q, base + k, scores);

  int32_t* seen = reinterpret_cast<int32_t*>(work.shared + kLayout.seen);
  const int32_t ring_place = remainder<place_tiles(C)>(n) * C.tile_kv;
  const TileRule<C, V> rule{.v = work.v,
                            .mask = work.mask,
                            .rows = work.rows(),
                            .columns = data.source.columns,
                            .positions = reinterpret_cast<const int32_t*>(work.shared + kLayout.positions) + ring_place,
                            .k_scale = reinterpret_cast<const float*>(work.shared + kLayout.k_scale) + ring_place,
                            .seen = drops ? seen : nullptr,
                            .first_column = columns.begin,
                            .kv_head = data.source.kv_head,
                            .scale = data.scale};
  apply_rule(place, rule, full, scores);
  if (drops) {
    drop_unseen<C>(team, seen, work.shared + v);
  }
  const float* v_scale = reinterpret_cast<const float*>(work.shared + kLayout.v_scale) + ring_place;
  Weights<C> weights;
  if constexpr (V::use_softmax) {
    const float scale = kScalesLate<V> ? data.scale * math::kLog2e : math::kLog2e;
    raise_tops<C>(scale, scores, states);
    make_weights<C>(place, scale, v_scale, scores, states, weights);
  } else {
    take_weights<C>(place, v_scale, scores, weights);
  }
  multiply_values<C>(place, base + v, weights, states);
}

/// All tiles of the item, the next `stages` - 1 on their way while one is computed. `rows` of the item are being written to shared memory.
template <Config C, class V>
__device__ __forceinline__ void attend_tiles(const ItemWork<C, V>& work, States<C>& states) {
  constexpr Layout kLayout = layout_of(C);
  constexpr int32_t kAhead = C.stages - 1;
  const uint32_t base = ptx::opaque(ptx::shared_address(work.shared));  // in a register, and not found anew every time
  const auto has_tile = [&](int32_t n) { return n < ptx::load_shared_4(base + kLayout.item + kCountOfItem); };
  constexpr int32_t kLookup = lookup_tiles(C);
  // Tiles n .. n + kLookup - 1, n a multiple of kLookup: this thread's column of one of them.
  const auto ask = [&](int32_t n) {
    const Team<C> team;
    n += team.lookup_tile();
    if (!has_tile(n)) {
      return AskedColumn{0, -1};
    }
    return ask_for_column(work.source(), first_column_of<C>(base + kLayout.item, n) + team.lookup_col());
  };
  const auto set_places = [&](int32_t n, AskedColumn asked) {
    const Team<C> team;
    n += team.lookup_tile();
    if (has_tile(n)) {
      place_column<C>(work.kv(), work.source(), asked, remainder<place_tiles(C)>(n) * C.tile_kv + team.lookup_col(), work.shared);
    }
  };
  const auto load = [&](int32_t n) {
    if (has_tile(n)) {
      load_tile<C>(work.params, ptx::load_shared_4(base + kLayout.item + kAlignedOfItem) != 0, Team<C>{}, remainder<place_tiles(C)>(n),
                   remainder<C.stages>(n), work.shared, base);
    }
  };
  constexpr int32_t kKnown = known_tiles(C);
  AskedColumn first[kKnown / kLookup];
#pragma unroll
  for (int32_t i = 0; i < kKnown / kLookup; ++i) {
    first[i] = ask(i * kLookup);
  }
#pragma unroll
  for (int32_t i = 0; i < kKnown / kLookup; ++i) {
    set_places(i * kLookup, first[i]);
  }
  AskedColumn asked = ask(kKnown);
  __syncthreads();  // Order: places are written before they are read
  load_queries<C>(work.params, work.rows(), work.num_rows(), work.data().negative, work.shared + kLayout.q);
  Queries<C> queries;
#pragma unroll 1
  for (int32_t n = -kAhead; n < 0 || has_tile(n); ++n) {
    if (n >= 0) {
      // The group committed n-th holds tile n and the scales of its columns.
      ptx::wait_for_copies<kAhead - 1>();
      if (n == 0) {
        __syncthreads();                              // Order: everybody's part of the queries is there
        queries.begin(Place<C>{}, base + kLayout.q);  // those kept in registers
      } else {
        Team<C>{}.sync();  // Order: the team's copies are there, and nobody in it needs the stage that is loaded next
      }
    }
    load(n + kAhead);
    ptx::commit_copies();
    if (n >= 0) {
      if (n % kLookup == 0) {
        set_places(n + kKnown, asked);
        asked = ask(n + kKnown + kLookup);
      }
      attend_tile(work, Team<C>{}, Place<C>{}, base, queries, n, states);
    }
  }
  ptx::wait_for_copies<0>();
}

/// Rows of warps that had columns of their own: their states, merged in a fixed order, to where the item says.
template <Config C, class V>
__device__ __forceinline__ void merge_warps(const ItemWork<C, V>& work) {
  constexpr Layout kLayout = layout_of(C);
  const float* tops = reinterpret_cast<const float*>(work.shared + kLayout.top_sum);
  const float* sums = tops + C.warps_kv * C.tile_q;
  const float* out = reinterpret_cast<const float*>(work.shared + kLayout.ring);
  const ItemData<C>& data = work.data();
  const float v_scale = head_scale(work.kv().v.scale, data.source.kv_head);
  for (int32_t r = static_cast<int32_t>(threadIdx.x / 32); r < work.num_rows(); r += num_threads(C) / 32) {
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
    write_row(work.params, work.v, data.item, data.format, work.rows()[r], r, o, lse2);
  }
}

/// Rows of warps that had all columns, straight from registers.
template <Config C, class V>
__device__ __forceinline__ void write_rows(const ItemWork<C, V>& work, const Place<C>& place, const States<C>& states) {
  const ItemData<C>& data = work.data();
  const float v_scale = head_scale(work.kv().v.scale, data.source.kv_head);
#pragma unroll
  for (int32_t t = 0; t < kRowTiles<C>; ++t) {
#pragma unroll
    for (int32_t half = 0; half < 2; ++half) {
      float sum = states.sum[t][half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const int32_t r = place.row(t, half);
      if (r >= work.num_rows()) {
        continue;
      }
      const bool empty = V::use_softmax && sum == 0.0f;  // NaN is no empty state
      const float factor = empty ? 0.0f : v_scale * (V::use_softmax ? 1.0f / sum : 1.0f);
      const float lse2 = empty ? -math::infinity<float>() : V::use_softmax ? states.top[t][half] + math::log2(sum) : 0.0f;
      const Row& row = work.rows()[r];
      RowTarget target = target_of_row(work.params, work.v, data.item, data.format, row, r, lse2);
      if (place.j == 0) {
        write_lse(target);
      }
      target.scale *= factor;
      const Position<> at = position_of(row, data.source.kv_head, 0);
#pragma unroll
      for (int32_t n = 0; n < C.head_dim_vo / 8; ++n) {
        // Elements d and d + 1 of the row.
        const int32_t d = is_narrow(C.v) ? n / 2 * 16 + 4 * place.j + 2 * (n % 2) : 8 * n + 2 * place.j;
        const float first = is_narrow(C.v) ? states.o[t][n / 2 * 2][2 * half + n % 2] : states.o[t][n][2 * half];
        const float second = is_narrow(C.v) ? states.o[t][n / 2 * 2 + 1][2 * half + n % 2] : states.o[t][n][2 * half + 1];
        if (n < C.head_dim_vo / 8 - 2 || d < work.params.head_dim_vo) {
          write_pair<C.o>(target, work.v, at, d, work.params.head_dim_vo, first, second);
        }
      }
    }
  }
}

/// Fills in ItemData, all but the columns of warps that have no rows.
template <Config C, class V>
__device__ __forceinline__ void begin_item(const ItemWork<C, V>& work, const Place<C>& place, const WorkItem& item, int32_t round) {
  const KernelParams& params = work.params;
  ItemData<C>& data = work.data();
  const RowGroup group = params.plan.groups[item.row_group];
  const KvView& kv = params.kv[group.format];
  const bool may_be_unseen = !params.range.exact || kv.by_index || group.rows >= 0;
  // The item's rows first, then the warp's.
#pragma unroll 1
  for (int32_t pass = 0; pass < 2; ++pass) {
    const int32_t begin = item.row_begin + (pass == 0 ? 0 : place.first_row);
    const int32_t end = pass == 0 ? item.row_end : min_(item.row_end, begin + 16 * kRowTiles<C>);
    ItemTiles tiles{};
    int32_t kv_len_max = 0;
    if (begin < end) {
      const RowBounds bounds = bounds_of_rows(params, group, begin, end);
      tiles = tiles_of_item(params, item, group, bounds, C.tile_kv);
      kv_len_max = bounds.kv_len_max;
    }
    if (pass == 0 && threadIdx.x == 0) {
      data.source.tiles = tiles;
      data.tiles = tiles.tiles;
      data.source.kv_len_max = kv_len_max;
    }
    if (pass == 1 && place.lane == 0 && place.first_col == 0) {
      const Span longer = tiles.full.first.length() > tiles.full.second.length() ? tiles.full.first : tiles.full.second;
      data.columns[place.warp_q] = {may_be_unseen ? Span{} : longer, tiles.columns, tiles.full};
    }
  }
  if (threadIdx.x == 0) {
    data.item = item;
    data.round = round;
    data.count = data.tiles.count();
    data.format = group.format;
    data.source.columns = columns_of(kv, group);
    data.source.k = head_cache(kv.k, item.kv_head, row_of(C.k).bits / 8, params.head_dim_qk);
    data.source.v = head_cache(kv.v, item.kv_head, row_of(C.v).bits / 8, params.head_dim_vo);
    data.source.kv_head = item.kv_head;
    data.aligned = data.source.k.is_aligned && data.source.v.is_aligned;
    data.may_be_unseen = may_be_unseen;
    // raise_tops takes a positive scale; 0 is as good as nearly 0.
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
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < C.tile_kv; c += num_threads(C)) {
    reinterpret_cast<int32_t*>(work.shared + layout_of(C).seen)[c] = 0;
  }
}

template <Config C, class V>
__device__ __forceinline__ int32_t attend_item(const ItemWork<C, V>& work, const WorkItem& item, int32_t round) {
  static_assert(sizeof(ItemData<C>) <= item_bytes(C), "see item_bytes");
  static_assert(FOVEA_OFFSETOF(ItemData<C>, aligned) == kAlignedOfItem && FOVEA_OFFSETOF(ItemData<C>, count) == kCountOfItem &&
                    FOVEA_OFFSETOF(ItemData<C>, columns) == kColumnsOfWarps,
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
  static_assert(C.stages >= 2, "a tile is loaded while another is computed; see select.cc");
  extern __shared__ __align__(16) char shared[];
  ptx::wait_for_previous_grid();
  ptx::let_next_grid_start();
  const V v = make_variant<V>(mask, variant_params);
  const ItemWork<C, V> work{.params = params, .v = v, .mask = mask, .shared = shared};
  for_each_item<C.form>(params, config, [&](const WorkItem& item, int32_t round) { return attend_item(work, item, round); });
}

}  // namespace fovea::cuda::attention_sm80
